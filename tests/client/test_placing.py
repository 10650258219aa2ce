"""A folder that is kept at what a ref means, and what is never done to it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hub.adapter.files import build_manifest
from hub.adapter.provenance import Provenance
from hub.client import placing
from hub.client.placing import NOTE, check, place
from hub.client.records import VersionInfo
from hub.errors import Conflict, IntegrityError, InvalidRequest
from hub.manifest import BaseIdentity
from tests.client.test_cache import info_of
from tests.support.adapters import write_adapter


def test_what_is_known_of_the_base_goes_along(versions: list[tuple[VersionInfo, Path]], tmp_path: Path) -> None:
    _, folder = versions[0]
    base = BaseIdentity(id="org/model", shapes="sha256:" + "1" * 64)
    info = info_of(build_manifest(folder, base=base))
    target = place(info, folder, tmp_path / "served")
    assert Provenance.read(target).base.shapes == base.shapes  # type: ignore[union-attr]
    check(info, target)
    assert place(info, folder, target) == target


@pytest.fixture
def versions(tmp_path: Path) -> list[tuple[VersionInfo, Path]]:
    """Two versions, each with its files in a folder."""
    folders = [write_adapter(tmp_path / f"v{seed}", seed=seed, readme=f"# {seed}\n") for seed in (1, 2)]
    return [(info_of(build_manifest(folder)), folder) for folder in folders]


def content(folder: Path) -> dict[str, bytes]:
    names = (path for path in folder.rglob("*") if path.is_file() and ".lorahub" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names}


@pytest.mark.parametrize("in_one_step", [True, False], ids=["exchanged", "renamed twice"])
def test_a_folder_of_an_earlier_pull_is_replaced_whole(
    versions: list[tuple[VersionInfo, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    if not in_one_step:
        monkeypatch.setattr(placing, "_exchange", lambda *_: False)
    (one, first), (two, second) = versions
    target = tmp_path / "out" / "served"
    assert place(one, first, target) == target
    assert content(target) == content(first)
    stamp = (target / "adapter_config.json").stat()
    place(one, first, target)
    assert (target / "adapter_config.json").stat() == stamp, "nothing to do"
    place(two, second, target)
    assert content(target) == content(second)
    assert [path.name for path in target.parent.iterdir()] == ["served"], "nothing is left beside it"


def test_a_reader_never_finds_half_of_a_folder(versions: list[tuple[VersionInfo, Path]], tmp_path: Path) -> None:
    """Whoever opens the folder while it is replaced holds all of one version: here, by a handle to the folder."""
    target = tmp_path / "served"
    place(*versions[0], target)
    good = [content(folder) for _, folder in versions]
    stop, wrong, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            handle = os.open(target, os.O_RDONLY)  # a moment without the folder would fail here
            names = set(os.listdir(handle)) - {".lorahub"}
            if names and names != set(good[0]):
                wrong.append(names)
            seen.add((target / "README.md").read_bytes())
            os.close(handle)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        place(*versions[turn % 2], target)
    stop.set()
    reader.join()
    assert wrong == []
    assert seen <= {files["README.md"] for files in good}


def test_what_is_the_users_own_is_neither_overwritten_nor_removed(
    versions: list[tuple[VersionInfo, Path]], tmp_path: Path
) -> None:
    (one, first), (two, second) = versions
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match="not empty"):
        place(one, first, mine)
    target = tmp_path / "served"
    place(one, first, target)
    (target / "notes.txt").write_text("mine")
    (target / "README.md").write_text("# mine\n")
    with pytest.raises(Conflict, match=r"notes\.txt is foreign") as caught:
        place(two, second, target)
    assert set(caught.value.details["files"]) == {"README.md was changed", "notes.txt is foreign"}
    assert (target / "README.md").read_text() == "# mine\n"
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


def test_a_link_to_a_folder_stays_one(versions: list[tuple[VersionInfo, Path]], tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    place(*versions[0], real)
    link.symlink_to(real)
    place(*versions[1], link)
    assert link.is_symlink()
    assert content(real) == content(versions[1][1])


def test_a_pull_that_fails_leaves_the_folder_as_it_was(
    versions: list[tuple[VersionInfo, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "served"
    place(*versions[0], target)

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(placing._Note, "write", fail)
    with pytest.raises(OSError, match="No space"):
        place(*versions[1], target)
    assert content(target) == content(versions[0][1])
    assert [path.name for path in target.parent.iterdir()] == ["served"]


def test_check_names_what_is_missing_changed_and_foreign(
    versions: list[tuple[VersionInfo, Path]], tmp_path: Path
) -> None:
    info, folder = versions[0]
    target = place(info, folder, tmp_path / "served")
    assert check(info, target) == info.manifest.files  # type: ignore[union-attr]
    (target / "README.md").unlink()
    (target / "adapter_config.json").write_text("{}")
    (target / "evil.py").write_text("boom")
    with pytest.raises(IntegrityError) as caught:
        check(info, target)
    assert caught.value.details["files"] == [
        "README.md is missing",
        "adapter_config.json was changed",
        "evil.py is foreign",
    ]
    assert (target / NOTE).exists()
