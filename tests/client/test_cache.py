"""The cache: bytes once, folders that PEFT opens, and nothing damaged that is taken for whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.client import cache as cache_module
from hub.client.cache import Cache, is_sealed
from hub.client.cache_care import clear, prune, remove_version, verify_all, verify_version
from hub.client.progress import Observer
from hub.client.records import VersionInfo
from hub.client.sync import fetch
from hub.errors import IntegrityError, StorageFull, UnsafeFile, VersionNotFound
from hub.manifest import FileEntry, Manifest
from hub.refs import AdapterName
from hub.settings import ClientSettings
from tests.client.conftest import NAME, fill
from tests.support.adapters import write_adapter


def info_of(manifest: Manifest, version: int = 1) -> VersionInfo:
    return VersionInfo.from_json(
        {
            "adapter": str(NAME),
            "version": version,
            "digest": manifest.digest,
            "size_bytes": manifest.size_bytes,
            "manifest": manifest.to_json(),
        }
    )


def test_a_snapshot_has_the_files_of_its_version(cached, adapter):
    cache, manifest, folder = cached
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in adapter.iterdir()
    }
    assert cache.find_snapshot(NAME, manifest) == folder


def test_equal_files_of_two_versions_lie_on_the_disk_once(cached, tmp_path, adapter):
    cache, manifest, folder = cached
    (adapter / "README.md").write_text("# another card\n")
    from hub.adapter.files import build_manifest

    second = build_manifest(adapter)
    assert second.digest != manifest.digest
    other = fill(cache, adapter, second)
    weights = "adapter_model.safetensors"
    assert (folder / weights).stat().st_ino == (other / weights).stat().st_ino
    assert len(list(cache.root.glob("blobs/sha256/*/*"))) == 4


def test_without_hard_links_a_snapshot_is_a_sealed_copy(tmp_path, adapter, monkeypatch):
    from hub.adapter.files import build_manifest

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    cache, manifest = Cache(tmp_path / "cache"), build_manifest(adapter)
    folder = fill(cache, adapter, manifest)
    assert cache.find_snapshot(NAME, manifest) == folder
    assert (folder / "README.md").stat().st_ino != cache.blob_path(manifest.file("README.md").sha256).stat().st_ino


def test_a_file_that_was_written_to_is_not_taken_for_whole(cached, write_to):
    cache, manifest, folder = cached
    entry = manifest.file("adapter_model.safetensors")
    write_to(folder / entry.path, 1000)
    assert cache.find_snapshot(NAME, manifest) is None
    assert not cache.has_blob(entry), "the blob is the same file, and is thrown away"
    assert not cache.blob_path(entry.sha256).exists()


def test_a_blob_that_was_only_touched_is_hashed_and_kept(cached):
    cache, manifest, _ = cached
    entry = manifest.files[0]
    os.utime(cache.blob_path(entry.sha256))
    assert not is_sealed(cache.blob_path(entry.sha256), entry.size)
    assert cache.has_blob(entry)
    assert is_sealed(cache.blob_path(entry.sha256), entry.size)


def test_a_snapshot_appears_whole_or_not_at_all(tmp_path, adapter, monkeypatch):
    from hub.adapter.files import build_manifest

    cache, manifest = Cache(tmp_path / "cache"), build_manifest(adapter)
    made: list[Path] = []

    def fail_at_the_second(blob: Path, place: Path) -> None:
        if made:
            raise OSError(errno.ENOSPC, "full")
        made.append(place)
        os.link(blob, place)

    monkeypatch.setattr(cache_module, "link_or_copy", fail_at_the_second)
    with pytest.raises(StorageFull), cache.explained():
        fill(cache, adapter, manifest)
    assert cache.find_snapshot(NAME, manifest) is None
    assert list((cache.root / "snapshots" / "task" / "qa").iterdir()) == []


def test_a_disk_that_is_full_before_the_first_byte_comes_is_told_as_such(cached, tmp_path, monkeypatch):
    _, manifest, _ = cached

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "FileLock", no_room)
    with pytest.raises(StorageFull, match="LORAHUB_CACHE"):
        fetch(info_of(manifest), ClientSettings("http://127.0.0.1:9", None, tmp_path / "other"))


def test_a_broken_snapshot_is_replaced(cached, write_to, adapter):
    cache, manifest, folder = cached
    (folder / "README.md").unlink()
    assert cache.find_snapshot(NAME, manifest) is None
    assert cache.build_snapshot(NAME, manifest) == folder
    assert cache.find_snapshot(NAME, manifest) == folder


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a\\b", "con", ".git/config", "a/../b"])
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path, path):
    cache = Cache(tmp_path)
    manifest = Manifest((FileEntry(path, 1, "0" * 64),), {}, ())
    with pytest.raises(UnsafeFile):
        cache.build_snapshot(NAME, manifest)
    assert not (tmp_path / "snapshots").exists()


def test_a_manifest_is_found_by_its_digest_and_refused_when_altered(cached):
    cache, manifest, _ = cached
    assert cache.load_manifest(manifest.digest) == manifest
    path = cache.root / "manifests" / f"{manifest.digest}.json"
    path.write_bytes(path.read_bytes().replace(b"README.md", b"README.mx"))
    assert cache.load_manifest(manifest.digest) is None


@pytest.mark.parametrize("damaged", [b"", b'{"files": ['])
def test_a_damaged_manifest_is_written_again(cached, damaged):
    """What a power cut leaves of a file that was renamed before its bytes were on the disk."""
    cache, manifest, _ = cached
    path = cache.root / "manifests" / f"{manifest.digest}.json"
    path.write_bytes(damaged)
    cache.save_manifest(manifest)
    assert cache.load_manifest(manifest.digest) == manifest
    before = path.stat()
    cache.save_manifest(manifest)
    assert path.stat().st_ino == before.st_ino, "a whole one is left as it is"


def test_the_lock_of_a_killed_holder_is_free(tmp_path):
    code = (
        "import sys; from pathlib import Path; from hub.client.cache import Cache; import os, signal\n"
        "with Cache(Path(sys.argv[1])).lock('a' * 64):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    with Cache(tmp_path).lock("a" * 64):
        pass


def test_a_disk_without_room_is_told_before_the_download(tmp_path):
    with pytest.raises(StorageFull, match="LORAHUB_CACHE") as caught:
        Cache(tmp_path / "new").check_room(2**62)
    assert caught.value.exit_code == 1


# --- care


def test_verify_hashes_every_file(cached):
    cache, manifest, _ = cached
    assert verify_version(info_of(manifest), cache, Observer()) == manifest.files
    assert verify_all(cache, Observer()) == []


def test_verify_finds_a_byte_that_was_flipped_without_a_trace(cached, write_to):
    """A failing disk changes bytes and no time stamp: the seal still looks right, the hash doesn't."""
    cache, manifest, folder = cached
    path = folder / "adapter_model.safetensors"
    before = path.stat()
    write_to(path, 5000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.find_snapshot(NAME, manifest) == folder
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors") as caught:
        verify_version(info_of(manifest), cache, Observer())
    assert caught.value.exit_code == 6
    assert "lorahub pull task/qa@v1" in caught.value.message
    assert cache.find_snapshot(NAME, manifest) is None
    assert not cache.blob_path(manifest.file(path.name).sha256).exists()


def test_verify_names_files_that_were_not_published(cached):
    cache, manifest, folder = cached
    folder.chmod(0o755)
    (folder / "extra.py").write_text("import os")
    with pytest.raises(IntegrityError, match=r"extra\.py \(not of this version\)"):
        verify_version(info_of(manifest), cache, Observer())
    assert cache.find_snapshot(NAME, manifest) is None
    assert all(cache.has_blob(entry) for entry in manifest.files), "the published bytes are good"


def test_verify_of_all_names_what_was_damaged(cached, write_to):
    cache, manifest, _ = cached
    entry = manifest.file("README.md")
    write_to(cache.blob_path(entry.sha256), 0)
    damaged = verify_all(cache, Observer())
    assert f"blobs/sha256/{entry.sha256[:2]}/{entry.sha256}" in damaged
    assert f"snapshots/task/qa/{manifest.digest}" in damaged


def test_verify_hashes_copies_where_there_are_no_links(tmp_path, adapter, monkeypatch, write_to):
    from hub.adapter.files import build_manifest

    monkeypatch.setattr(cache_module, "link_or_copy", cache_module.copy_sealed)
    cache, manifest = Cache(tmp_path / "cache"), build_manifest(adapter)
    folder = fill(cache, adapter, manifest)
    assert verify_all(cache, Observer()) == []
    path = folder / "adapter_model.safetensors"
    before = path.stat()
    write_to(path, 900)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert verify_all(cache, Observer()) == [f"snapshots/task/qa/{manifest.digest}"]
    assert cache.has_blob(manifest.file(path.name)), "the blob itself is good"


def test_what_is_not_cached_can_not_be_verified(tmp_path, adapter):
    from hub.adapter.files import build_manifest

    with pytest.raises(VersionNotFound, match="lorahub pull"):
        verify_version(info_of(build_manifest(adapter)), Cache(tmp_path / "empty"), Observer())


def test_prune_keeps_what_a_version_uses_and_what_is_young(cached):
    cache, manifest, folder = cached
    orphan = hashlib.sha256(b"orphan").hexdigest()
    partial = cache.partial_path(orphan)
    partial.write_bytes(b"orphan")
    cache.store_blob(partial, orphan)
    cache.partial_path("b" * 64).write_bytes(b"half")
    assert prune(cache).files == 0, "both may belong to a pull that is running"
    time.sleep(0.01)
    removed = prune(cache, grace_seconds=0.0)
    assert (removed.files, removed.size_bytes) == (2, 10)
    assert cache.find_snapshot(NAME, manifest) == folder


def test_removing_a_version_frees_its_bytes_and_no_others(cached, tmp_path):
    cache, manifest, _ = cached
    from hub.adapter.files import build_manifest

    other_folder = write_adapter(tmp_path / "other", seed=7)
    other, other_name = build_manifest(other_folder), AdapterName("task", "other")
    fill(cache, other_folder, other, other_name)
    remove_version(cache, NAME, manifest.digest)
    assert cache.find_snapshot(NAME, manifest) is None
    assert cache.find_snapshot(other_name, other) is not None
    assert {path.name for path in cache.root.glob("blobs/sha256/*/*")} == {entry.sha256 for entry in other.files}
    assert clear(cache).files == len(other.files)
    assert list(cache.snapshots()) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_any_contents_come_back_as_they_went_in(tmp_path_factory, contents):
    root = tmp_path_factory.mktemp("cache")
    cache = Cache(root)
    files = []
    for number, data in enumerate(contents):
        sha256 = hashlib.sha256(data).hexdigest()
        cache.partial_path(sha256).parent.mkdir(parents=True, exist_ok=True)
        cache.partial_path(sha256).write_bytes(data)
        cache.store_blob(cache.partial_path(sha256), sha256)
        files.append(FileEntry(f"dir/file{number}.json", len(data), sha256))
    folder = cache.build_snapshot(NAME, Manifest(tuple(files), {}, ()))
    assert [(folder / entry.path).read_bytes() for entry in files] == contents


def test_manifests_in_the_cache_are_their_canonical_bytes(cached):
    cache, manifest, _ = cached
    data = (cache.root / "manifests" / f"{manifest.digest}.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == manifest.digest
    assert json.loads(data) == manifest.to_json()
