"""Xet uploads by the stock client (hf_xet), and by one that means harm, against a real server."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.web.xet.hash import to_text
from tests.hf.conftest import Wire
from tests.hf.counting_proxy import Counter, counting_proxy
from tests.hf.large_adapter import large_adapter
from tests.support.rounds import rounds
from tests.support.server import running_server
from tests.xet.samples import Pack, write_shard

UPLOAD = """
import sys
from huggingface_hub import HfApi
repo, folder = sys.argv[1:]
api = HfApi()
api.create_repo(repo, exist_ok=True)
print(api.upload_folder(repo_id=repo, folder_path=folder).oid)
"""


@pytest.fixture(scope="module")
def counter(wire: Wire) -> Iterator[Counter]:
    with counting_proxy(wire.url) as counting:
        yield counting


@pytest.fixture(scope="module")
def namespace(wire: Wire) -> str:
    return wire.namespace("xet")


def start_upload(wire: Wire, url: str, repo: str, folder: Path, home: Path) -> subprocess.Popen[str]:
    env = wire.client_env(home) | {"HF_ENDPOINT": url}
    return subprocess.Popen(
        [sys.executable, "-c", UPLOAD, repo, str(folder)],
        env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def upload(wire: Wire, url: str, repo: str, folder: Path, home: Path) -> str:
    """Upload a folder in a process of its own; return the commit."""
    process = start_upload(wire, url, repo, folder, home)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out.strip().splitlines()[-1]


def version_of(wire: Wire, repo: str, selector: str = "latest") -> Any:
    return wire.native("GET", f"/adapters/{repo}/versions/{selector}")


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored_weights(version: Any) -> str:
    files = {file["path"]: file["sha256"] for file in version["manifest"]["files"]}
    return str(files["adapter_model.safetensors"])


def test_weights_come_through_xet_and_only_changes_are_sent_again(
    wire: Wire, counter: Counter, namespace: str, tmp_path: Path
) -> None:
    repo, folder = f"{namespace}/edited", large_adapter(tmp_path / "edited", 20_000_000)
    weights = folder / "adapter_model.safetensors"
    size = weights.stat().st_size
    upload(wire, counter.url, repo, folder, tmp_path)
    assert stored_weights(version_of(wire, repo)) == sha256_of(weights)
    assert counter.sent("/v1/xorbs/") > size / 2

    counter.forget()
    upload(wire, counter.url, repo, folder, tmp_path)
    assert counter.sent("/v1/xorbs/") == 0
    assert version_of(wire, repo)["version"] == 1

    counter.forget()
    with weights.open("r+b") as file:
        file.seek(size // 2)
        file.write(random.Random(1).randbytes(100))
    upload(wire, counter.url, repo, folder, tmp_path)
    assert version_of(wire, repo)["version"] == 2
    assert stored_weights(version_of(wire, repo)) == sha256_of(weights)
    # One chunk at the place of the change, or two: a chunk has at most 128 KiB.
    assert 0 < counter.sent("/v1/xorbs/") < 3 * 128 * 1024


def test_two_clients_upload_to_one_adapter_at_once(wire: Wire, namespace: str, tmp_path: Path) -> None:
    repo = f"{namespace}/at-once"
    folders = [large_adapter(tmp_path / str(seed), 2_000_000, seed=seed) for seed in (1, 2)]
    running = [start_upload(wire, wire.url, repo, folder, tmp_path / f"home{at}") for at, folder in enumerate(folders)]
    for process in running:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    found = {stored_weights(version_of(wire, repo, f"v{number}")) for number in (1, 2)}
    assert found == {sha256_of(folder / "adapter_model.safetensors") for folder in folders}


def test_a_killed_upload_is_tried_again(wire: Wire, counter: Counter, namespace: str, tmp_path: Path) -> None:
    repo, folder = f"{namespace}/killed", large_adapter(tmp_path / "killed", 40_000_000)
    counter.forget()
    process = start_upload(wire, counter.url, repo, folder, tmp_path)
    deadline = time.monotonic() + 120
    while not any("/xorb" in seen.path for seen in counter.seen) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    upload(wire, counter.url, repo, folder, tmp_path)
    assert stored_weights(version_of(wire, repo)) == sha256_of(folder / "adapter_model.safetensors")


@pytest.mark.slow
def test_200_mb_in_one_commit(wire: Wire, namespace: str, tmp_path: Path) -> None:
    repo, folder = f"{namespace}/big", large_adapter(tmp_path / "big", 200_000_000)
    upload(wire, wire.url, repo, folder, tmp_path)
    version = version_of(wire, repo)
    assert version["version"] == 1
    assert stored_weights(version) == sha256_of(folder / "adapter_model.safetensors")


# Those who mean harm ------------------------------------------------------------------------------------------------


class Cas:
    """One adapter's Xet address and token, for requests that hf_xet would not send."""

    def __init__(self, wire: Wire, repo: str, token: str | None = None) -> None:
        self.wire, self.repo = wire, repo
        wire_request(wire, "POST", "/api/repos/create", body=_json({"name": repo}), quiet=True)
        answer = wire_request(wire, "GET", f"/api/models/{repo}/xet-write-token/main", token=token)
        granted = json.loads(answer[1])
        self.token, self.url = granted["accessToken"], granted["casUrl"].removeprefix(wire.url)

    def put_xorb(self, name: bytes, body: bytes, token: str | None = None) -> int:
        path = f"{self.url}/v1/xorbs/default/{to_text(name)}"
        return wire_request(self.wire, "POST", path, body, token or self.token, quiet=True)[0]

    def put_shard(self, body: bytes, token: str | None = None) -> int:
        return wire_request(self.wire, "POST", f"{self.url}/v1/shards", body, token or self.token, quiet=True)[0]

    def has(self, sha256: str, size: int) -> bool:
        """Whether an LFS upload of these bytes would find them here."""
        body = _json({"operation": "upload", "objects": [{"oid": sha256, "size": size}]})
        answer = wire_request(self.wire, "POST", f"/{self.repo}.git/info/lfs/objects/batch", body)
        return "actions" not in json.loads(answer[1])["objects"][0]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def wire_request(
    wire: Wire, method: str, path: str, body: bytes | None = None, token: str | None = None, *, quiet: bool = False
) -> tuple[int, bytes]:
    request = urllib.request.Request(wire.url + path, body, {"Authorization": f"Bearer {token or wire.token}"})
    request.method = method
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        if not quiet:
            raise
        return error.status or 0, error.read()


@pytest.fixture(scope="module")
def cas(wire: Wire, namespace: str) -> Cas:
    return Cas(wire, f"{namespace}/harmed")


def test_a_file_is_stored_when_its_hashes_are_right(cas: Cas) -> None:
    pack = Pack((b"first chunk", b"second chunk", b"third"), (0, 1, 2))
    data = b"".join(pack.chunks)
    sha256 = hashlib.sha256(data).hexdigest()
    assert not cas.has(sha256, len(data))
    assert cas.put_xorb(pack.name, pack.sent) == 200
    assert cas.put_shard(write_shard([(pack, sha256, [(0, 3)])])) == 200
    assert cas.has(sha256, len(data))


def test_a_wrong_sha256_is_refused_and_nothing_is_kept(cas: Cas) -> None:
    pack = Pack((b"some", b"bytes"))
    assert cas.put_xorb(pack.name, pack.sent) == 200
    claimed = hashlib.sha256(b"what others want").hexdigest()
    assert cas.put_shard(write_shard([(pack, claimed, [(0, 2)])])) == 422
    assert not cas.has(claimed, len(b"somebytes"))


def test_a_xorb_of_another_name_is_refused(cas: Cas) -> None:
    wanted, sent = Pack((b"what a victim will send",)), Pack((b"poison",))
    assert cas.put_xorb(wanted.name, sent.sent) == 422
    assert cas.put_shard(write_shard([(wanted, "ab" * 32, [(0, 1)])])) == 404


def test_another_adapters_chunks_can_not_be_had(cas: Cas, wire: Wire, namespace: str) -> None:
    secret = Pack((b"chunks of a private adapter",))
    sha256 = hashlib.sha256(secret.chunks[0]).hexdigest()
    assert Cas(wire, f"{namespace}/private").put_xorb(secret.name, secret.sent) == 200
    assert cas.put_shard(write_shard([(secret, sha256, [(0, 1)])])) == 404


def test_a_segment_beyond_its_xorb_is_refused(cas: Cas) -> None:
    pack = Pack((b"a", b"b"))
    longer = Pack((b"a", b"b", b"c"))
    assert cas.put_xorb(pack.name, pack.sent) == 200
    shard = write_shard([(longer, "cd" * 32, [(0, 3)])]).replace(longer.name, pack.name)
    assert cas.put_shard(shard) == 400


def test_tokens_are_for_one_adapter_and_can_not_be_made_up(cas: Cas, wire: Wire, namespace: str) -> None:
    other = Cas(wire, f"{namespace}/other")
    pack = Pack((b"x",))
    assert cas.put_xorb(pack.name, pack.sent, token=other.token) == 403
    assert cas.put_xorb(pack.name, pack.sent, token="made-up") == 401
    assert cas.put_xorb(pack.name, pack.sent, token=cas.token[:-3] + "AAA") == 401
    assert cas.put_xorb(pack.name, pack.sent, token=wire.token) == 401
    path = f"/api/models/{cas.repo}/xet-write-token/main"
    assert wire_request(wire, "GET", path, token=wire.reader_token, quiet=True)[0] == 403


def test_a_publisher_who_was_removed_sends_nothing_more(wire: Wire, namespace: str) -> None:
    wire.native("POST", "/users", {"name": "leaving"})
    made = wire.native("POST", "/tokens", {"name": "t", "scopes": ["publish"], "user": "leaving"})
    wire.native("PUT", f"/namespaces/{namespace}/members/leaving", {"role": "publisher"})
    theirs = Cas(wire, f"{namespace}/harmed", made["secret"])
    pack = Pack((b"what a publisher sends",))
    assert theirs.put_xorb(pack.name, pack.sent) == 200
    wire.native("DELETE", f"/namespaces/{namespace}/members/leaving")
    late = Pack((b"and what comes too late",))
    assert theirs.put_xorb(late.name, late.sent) == 403
    assert theirs.put_shard(write_shard([(pack, "ab" * 32, [(0, 1)])])) == 403


def test_chunks_of_all_adapters_count_against_the_namespaces_quota(wire: Wire) -> None:
    wire.native("POST", "/namespaces", {"name": "narrow"})
    spaces = [Cas(wire, f"narrow/a{number}") for number in range(4)]
    wire.native("PUT", "/namespaces/narrow/quota", {"max_bytes": 2_500})
    packs = [Pack((bytes([number]) * 1_000,)) for number in range(4)]
    got = [cas.put_xorb(pack.name, pack.sent) for cas, pack in zip(spaces, packs, strict=True)]
    assert got == [200, 200, 413, 413]


def test_the_address_that_is_given_out_is_the_public_one(tmp_path: Path) -> None:
    with running_server(tmp_path, "--public-url", "https://hub.example.com/") as server:
        forged = {"Authorization": f"Bearer {server.token}", "Host": "evil.example.org"}
        body = _json({"name": "admin/qa"})
        request = urllib.request.Request(f"{server.url}/api/repos/create", body, forged, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["url"] == "https://hub.example.com/admin/qa"
        request = urllib.request.Request(f"{server.url}/api/models/admin/qa/xet-write-token/main", headers=forged)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode() + str(answer.headers)
    assert "https://hub.example.com/api/xet/" in text
    assert "evil.example.org" not in text


def test_what_newer_clients_ask_first_is_not_there(cas: Cas, wire: Wire) -> None:
    for path in (f"{cas.url}/v1/xorb-grants/default/{'0' * 64}", f"{cas.url}/v2/shards"):
        assert wire_request(wire, "POST", path, b"{}", cas.token, quiet=True)[0] == 404


@settings(max_examples=rounds(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_malformed_xorbs_and_shards_get_4xx(cas: Cas, data: st.DataObject) -> None:
    pack = Pack((b"hello " * 50, bytes(range(256))), (1, 2))
    shard = write_shard([(pack, "ab" * 32, [(0, 1), (1, 2)])])
    body = bytearray(data.draw(st.sampled_from([pack.sent, shard, b"", os.urandom(64)])))
    for _ in range(data.draw(st.integers(0, 3)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    name = hashlib.sha256(cut + b"salt").digest()
    assert 400 <= cas.put_xorb(name, cut) < 500
    # A shard may be cut behind its bookends, or changed where nothing is read: its sha256 is wrong all the same.
    assert 400 <= cas.put_shard(cut) < 500
