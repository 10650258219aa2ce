"""What the cache remembers of a registry: by version, alias and digest, with what was last said of each."""

from __future__ import annotations

import pytest

from hub.client.cache import Cache
from hub.client.offline import KnownVersions
from hub.client.records import VersionInfo
from hub.errors import Offline
from hub.manifest import FileEntry, Manifest
from hub.refs import AdapterName, AdapterRef

NAME = AdapterName("task", "qa")


def version(number: int, *aliases: str, name: AdapterName = NAME, **changes: object) -> VersionInfo:
    manifest = Manifest((FileEntry("adapter_config.json", number, f"{number:064x}"),), {"r": number}, ())
    answer = {
        "adapter": str(name),
        "version": number,
        "digest": manifest.digest,
        "size_bytes": number,
        "aliases": list(aliases),
        "manifest": manifest.to_json(),
    }
    return VersionInfo.from_json(answer | changes)


@pytest.fixture
def known(tmp_path) -> KnownVersions:
    return KnownVersions(Cache(tmp_path), "http://registry.example:8750")


def test_a_version_is_known_by_number_digest_and_alias(known):
    info = version(1, "prod")
    known.remember(info, NAME.at(1))
    for ref in (NAME.at(1), NAME.at("prod"), NAME.at(f"sha256:{info.digest}")):
        recalled = known.recall(ref)
        assert recalled == info
        assert recalled.manifest == info.manifest
    assert known.recall(AdapterRef(NAME)) is None, "nobody asked what latest is"


def test_an_alias_means_what_it_meant_last(known):
    known.remember(version(1, "prod"), NAME.at("prod"))
    known.remember(version(2, "prod"), NAME.at("prod"))
    assert known.recall(NAME.at("prod")).version == 2
    assert known.recall(NAME.at(1)).version == 1


def test_latest_is_remembered_when_it_was_asked_for(known):
    known.remember(version(3), AdapterRef(NAME))
    assert known.recall(AdapterRef(NAME)).version == 3


def test_an_alias_with_a_slash_is_a_file_like_any_other(known):
    known.remember(version(1, "rel/1.0"), NAME.at("rel/1.0"))
    assert known.recall(NAME.at("rel/1.0")).version == 1
    assert known.aliases(NAME) == {"rel/1.0": "v1"}


def test_a_yank_that_was_heard_of_is_remembered(known):
    known.remember(version(1), NAME.at(1))
    known.remember(version(1, yanked={"reason": "bad data", "at": "2026-01-01T00:00:00Z"}), NAME.at(1))
    assert "bad data" in known.recall(NAME.at(1)).warning


def test_registries_are_kept_apart(tmp_path):
    one, two = (KnownVersions(Cache(tmp_path), f"http://{host}") for host in ("one.example", "two.example"))
    one.remember(version(1), NAME.at(1))
    assert two.recall(NAME.at(1)) is None
    assert list(one.adapters()) == [NAME]
    assert list(two.adapters()) == []


def test_what_is_not_known_names_what_is(known):
    known.remember(version(1), NAME.at(1))
    with pytest.raises(Offline, match="task/qa@v1") as caught:
        known.require(NAME.at(2))
    assert "lorahub pull task/qa@v2" in caught.value.message
    assert caught.value.exit_code == 8


def test_a_file_that_another_program_broke_is_as_good_as_none(known, tmp_path):
    known.remember(version(1), NAME.at(1))
    for path in (tmp_path / "refs").rglob("v1.json"):
        path.write_text("{broken")
    assert known.recall(NAME.at(1)) is None
    known.remember(version(1), NAME.at(1))
    assert known.recall(NAME.at(1)) is not None


def test_a_version_whose_manifest_was_damaged_is_known_again_once_it_was_asked_for(known, tmp_path):
    info = version(1)
    known.remember(info, NAME.at(1))
    (tmp_path / "manifests" / f"{info.digest}.json").write_bytes(b"")
    assert known.recall(NAME.at(1)) is None
    known.remember(info, NAME.at(1))
    assert known.recall(NAME.at(1)) == info


def test_nothing_is_written_when_nothing_has_changed(known, tmp_path):
    known.remember(version(1, "prod"), NAME.at(1))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    known.remember(version(1, "prod"), NAME.at(1))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
