"""A registry that lies, by malice or by fault: nothing it says is believed without a check."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.client.cache import Cache, seal
from hub.client.progress import HubWarning
from hub.client.records import AdapterInfo, Identity, SearchPage, UploadPlan, VersionInfo
from hub.client.sync import pull, resolve
from hub.errors import DigestMismatch, HubError, IntegrityError, InvalidRequest, NetworkError, UnsafeFile
from hub.manifest import BaseIdentity, FileEntry, Manifest, canonical_json
from hub.refs import AdapterName, AdapterRef
from hub.settings import ClientSettings
from tests.client.blob_server import BlobServer, blob_server

NAME = AdapterName("task", "qa")
DATA = b"{}"


def version_json(manifest: object, digest: str, **changes: object) -> dict[str, object]:
    return {"adapter": "task/qa", "version": 1, "digest": digest, "size_bytes": 2, "manifest": manifest} | changes


def serve_version(server: BlobServer, answer: dict[str, object], selector: str = "v1") -> None:
    server.blobs[f"/api/v1/adapters/task/qa/versions/{selector}"] = json.dumps(answer).encode()


def manifest_of(path: str = "adapter_config.json") -> Manifest:
    return Manifest((FileEntry(path, len(DATA), hashlib.sha256(DATA).hexdigest()),), {}, (), BaseIdentity())


def client_settings(server: BlobServer, folder: Path) -> ClientSettings:
    return ClientSettings(server.url, None, folder / "cache")


@pytest.mark.parametrize(
    "path",
    ["../escape", "/etc/cron.d/x", "a/../../escape", "C:\\x", "nul", "x\x00y", ".git/hooks/post-checkout", "a//b"],
)
def test_a_file_name_that_leaves_the_cache_is_refused(tmp_path, path):
    payload = manifest_of().to_json()
    payload["files"][0]["path"] = path
    digest = hashlib.sha256(canonical_json(payload)).hexdigest()
    with blob_server() as server:
        serve_version(server, version_json(payload, digest))
        with pytest.raises(UnsafeFile) as caught:
            pull(NAME.at(1), client_settings(server, tmp_path))
    assert caught.value.exit_code == 6
    assert not (tmp_path / "cache" / "snapshots").exists()
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("path", ["adapter_model.bin", "run.py", "libx.so", "weights.pt", "a/evil.pkl", "x.sh"])
def test_a_kind_of_file_that_no_adapter_has_is_refused_before_a_byte_of_it_comes(tmp_path, path):
    manifest = Manifest((*manifest_of().files, *manifest_of(path).files), {}, ())
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest))
        with pytest.raises(UnsafeFile):
            pull(NAME.at(1), client_settings(server, tmp_path))
        assert not [asked for _, asked, _ in server.requests if "/files/" in asked]
    assert not (tmp_path / "cache" / "snapshots").exists()


@pytest.mark.parametrize("data", [b"\x80\x04\x95abc", b"PK\x03\x04zip", b"\x7fELF\x02"])
def test_a_file_that_is_not_what_its_name_says_gets_no_place(tmp_path, data):
    entry = FileEntry("README.md", len(data), hashlib.sha256(data).hexdigest())
    manifest = Manifest((entry,), {}, ())
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest))
        server.blobs["/api/v1/adapters/task/qa/versions/v1/files/README.md"] = data
        with pytest.raises(UnsafeFile):
            pull(NAME.at(1), client_settings(server, tmp_path))
    assert not (tmp_path / "cache" / "snapshots").exists()


@pytest.mark.parametrize("alias", ["..", ".", "../../x", "", "a/../b", "%2e%2e"])
def test_a_name_of_an_alias_that_is_none_is_refused(tmp_path, alias):
    manifest = manifest_of()
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest, aliases=[alias]))
        with pytest.raises(HubError):
            resolve(NAME.at(1), client_settings(server, tmp_path))


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"error":' * 5_000 + b"1" + b"}" * 5_000])
@pytest.mark.parametrize("status", [200, 404])
def test_json_that_is_too_deep_is_no_answer_of_a_registry(tmp_path, body, status):
    with blob_server() as server:
        server.blobs["/api/v1/adapters/task/qa/versions/v1"] = body
        server.statuses["/api/v1/adapters/task/qa/versions/v1"] = status
        with pytest.raises(HubError):
            resolve(NAME.at(1), client_settings(server, tmp_path))


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "//", "http://", "http://[", "http://a:99999/", "\x80\xff", "ftp://127.0.0.1/x", "data:,x"],
)
def test_a_redirect_that_leads_nowhere_is_a_typed_error(tmp_path, location):
    manifest = manifest_of()
    api, file = "/api/v1/adapters/task/qa/versions/v1", "/api/v1/adapters/task/qa/versions/v1/files/adapter_config.json"
    with blob_server() as server:
        server.redirects[api] = location
        with pytest.raises(HubError):
            resolve(NAME.at(1), client_settings(server, tmp_path))
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest))
        server.redirects[file] = location
        with pytest.raises(HubError):
            pull(NAME.at(1), client_settings(server, tmp_path))
    assert not (tmp_path / "cache" / "snapshots").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_was_pulled_is_its_users_alone(tmp_path):
    manifest = manifest_of()
    before = os.umask(0)
    try:
        with blob_server() as server:
            serve_version(server, version_json(manifest.to_json(), manifest.digest))
            server.blobs["/api/v1/adapters/task/qa/versions/v1/files/adapter_config.json"] = DATA
            pull(NAME.at(1), client_settings(server, tmp_path))
    finally:
        os.umask(before)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_seal_that_another_user_could_have_set_is_not_believed(tmp_path):
    """Who may write to a shared cache may also set a file's time and size."""
    cache = Cache(tmp_path)
    entry = manifest_of().files[0]
    path = cache.blob_path(entry.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[]")  # of the same size, and not what its name says
    seal(path)
    path.chmod(0o666)
    assert not cache.has_blob(entry)
    assert not path.exists()


def test_two_names_that_are_one_file_on_some_systems_are_refused(tmp_path):
    manifest = Manifest((*manifest_of("README.md").files, *manifest_of("readme.md").files), {}, ())
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest))
        with pytest.raises(UnsafeFile):
            pull(NAME.at(1), client_settings(server, tmp_path))


def test_a_manifest_that_is_not_the_digests_is_refused(tmp_path):
    with blob_server() as server:
        serve_version(server, version_json(manifest_of().to_json(), "0" * 64))
        with pytest.raises(DigestMismatch, match="lorahub fsck"):
            resolve(NAME.at(1), client_settings(server, tmp_path))


@pytest.mark.parametrize("changes", [{"version": 2}, {"adapter": "task/other"}])
def test_another_version_than_the_one_asked_for_is_refused(tmp_path, changes):
    manifest = manifest_of()
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest, **changes))
        with pytest.raises(DigestMismatch, match="do not trust"):
            resolve(NAME.at(1), client_settings(server, tmp_path))


def test_a_digest_gets_that_content_or_nothing(tmp_path):
    manifest, wanted = manifest_of(), "a" * 64
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest), f"sha256:{wanted}")
        with pytest.raises(DigestMismatch):
            resolve(AdapterRef.parse(f"task/qa@sha256:{wanted}"), client_settings(server, tmp_path))


def test_an_honest_answer_is_pulled_and_a_yank_is_a_warning(tmp_path):
    manifest = manifest_of()
    yanked = {"reason": "trained on the test set", "at": "2026-01-01T00:00:00Z"}
    with blob_server() as server:
        serve_version(server, version_json(manifest.to_json(), manifest.digest, yanked=yanked))
        server.blobs["/api/v1/adapters/task/qa/versions/v1/files/adapter_config.json"] = DATA
        with pytest.warns(HubWarning, match="yanked: trained on the test set"):
            folder = pull(NAME.at(1), client_settings(server, tmp_path))
    assert (folder / "adapter_config.json").read_bytes() == DATA


def test_a_version_without_its_manifest_is_refused(tmp_path):
    answer = version_json(None, "0" * 64)
    with blob_server() as server:
        serve_version(server, answer)
        with pytest.raises(NetworkError, match="without its manifest"):
            resolve(NAME.at(1), client_settings(server, tmp_path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=20,
)
KEYS = st.sampled_from(
    [
        "adapter",
        "name",
        "version",
        "digest",
        "size_bytes",
        "items",
        "manifest",
        "files",
        "yanked",
        "aliases",
        "state",
        "sha256",
        "size",
        "upload",
        "parts",
        "user",
        "token",
        "namespaces",
        "total",
        "next",
        "base",
        "latest",
        "tags",
    ]
)


SOUND = version_json(None, "0" * 64) | {
    "name": "task/qa",
    "user": "ann",
    "state": "upload",
    "sha256": "0" * 64,
    "size": 2,
    "upload": {"id": "u1", "mode": "append"},
}
"""Every kind finds in it what it needs: with a few fields that are anything, some of these are read."""


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=12) | JSON | st.dictionaries(KEYS, JSON, max_size=3).map(SOUND.__or__))
@example(SOUND)
@example({"state": "present"})
@pytest.mark.parametrize("kind", [VersionInfo, AdapterInfo, SearchPage, Identity, UploadPlan])
def test_any_json_is_read_or_refused_by_a_typed_error(kind, payload):
    try:
        read = kind.from_json(payload)
    except (InvalidRequest, IntegrityError, NetworkError):
        return
    if read is None:
        assert (kind, payload["state"]) == (UploadPlan, "present")
        return
    assert isinstance(read, kind)
    assert getattr(read, "raw", payload) == payload, "kept as it came"
