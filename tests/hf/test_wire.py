"""Rules of the wire that stock clients don't show: requests by hand, and what the native client makes of uploads."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, close_session
from huggingface_hub.utils._pagination import paginate

from tests.hf.conftest import Wire, seed_qa
from tests.hf.counting_proxy import counting_proxy
from tests.support.adapters import write_adapter


@pytest.fixture(scope="module")
def qa(wire: Wire, folders: dict[str, Path]) -> Iterator[str]:
    yield seed_qa(wire, wire.namespace("wire"), folders)
    close_session()


@pytest.fixture(scope="module")
def api(wire: Wire, qa: str) -> HfApi:
    return HfApi(endpoint=wire.url, token=wire.token)


def ask(
    wire: Wire, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send one request with the admin's token, unless `headers` say otherwise; an empty header is not sent."""
    sent = {"Authorization": f"Bearer {wire.token}"} | headers
    request = urllib.request.Request(wire.url + path, body, {name: value for name, value in sent.items() if value})
    request.method = method
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.status or 0, dict(error.headers), error.read()


SNAPSHOT = "import sys; from huggingface_hub import snapshot_download; snapshot_download(sys.argv[1], revision='v2')"


def test_a_cached_snapshot_takes_one_request(wire: Wire, qa: str, tmp_path: Path) -> None:
    with counting_proxy(wire.url) as counter:
        env = wire.client_env(tmp_path) | {"HF_ENDPOINT": counter.url}
        for _ in range(2):
            counter.forget()
            subprocess.run([sys.executable, "-c", SNAPSHOT, qa], env=env, check=True, capture_output=True)
        assert len(counter.seen) == 1, counter.lines()


def test_head_says_how_long_the_file_is(wire: Wire, qa: str, folders: dict[str, Path]) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        _, headers, body = ask(wire, "HEAD", f"/{qa}/resolve/v2/{name}")
        size = (folders["two"] / name).stat().st_size
        assert (int(headers["Content-Length"]), int(headers["X-Linked-Size"]), body) == (size, size, b"")
        assert headers["ETag"] == headers["X-Linked-Etag"]
        assert len(headers["X-Repo-Commit"]) == 40
        assert "X-Xet-Hash" not in headers


def test_a_native_pull_and_a_hub_download_are_the_same_files(
    wire: Wire, api: HfApi, folders: dict[str, Path], tmp_path: Path
) -> None:
    api.create_repo("wire/both-ways")
    api.upload_folder(repo_id="wire/both-ways", folder_path=str(folders["two"]))
    pulled = Path(wire.server.cli("pull", "wire/both-ways@v1").stdout.strip().splitlines()[-1])
    for path in folders["two"].iterdir():
        assert (pulled / path.name).read_bytes() == path.read_bytes()
    again = wire.server.cli("push", str(folders["two"]), "wire/both-ways").stdout
    assert "wire/both-ways@v1" in again


def test_a_draft_is_refused_by_the_native_client_with_the_reason(
    wire: Wire, api: HfApi, folders: dict[str, Path]
) -> None:
    api.create_repo("wire/draft")
    config = folders["one"] / "adapter_config.json"
    api.upload_file(repo_id="wire/draft", path_in_repo=config.name, path_or_fileobj=str(config))
    refused = wire.server.cli("pull", "wire/draft", check=False)
    assert refused.returncode == 3
    assert "adapter_model.safetensors" in refused.stderr, refused.stderr
    shown = wire.server.cli("show", "wire/draft").stdout
    assert "refs/draft/admin: There is no adapter_model.safetensors" in shown
    page = ask(wire, "GET", "/wire/draft")[2].decode()
    assert "A draft of admin, no version:" in page
    assert "adapter_model.safetensors" in page
    assert "A draft of" not in ask(wire, "GET", "/wire/draft", Authorization="")[2].decode()


def commit_of(message: str, **files: bytes) -> bytes:
    """Return the body of a commit that adds small files."""
    lines: list[Any] = [{"key": "header", "value": {"summary": message}}]
    for path, data in files.items():
        value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    return b"\n".join(json.dumps(line).encode() for line in lines)


@pytest.mark.parametrize(
    ("agent", "status"),
    [
        ("unknown/None; hf_hub/2.4.0; python/3.11.7", 200),
        ("transformers/5.1.0; hf_hub/1.13.0; python/3.11.7", 200),
        ("unknown/None; hf_hub/1.12.3; python/3.11.7", 422),
        ("unknown/None; hf_hub/0.36.0; python/3.11.7; torch/2.9", 422),
        ("curl/8.5.0", 422),
    ],
)
def test_a_client_that_prints_no_warnings_gets_an_error_for_a_draft_that_is_kept(
    wire: Wire, qa: str, agent: str, status: int
) -> None:
    body = commit_of("x", **{"adapter_config.json": b'{"peft_type": "LORA", "r": 32, "target_modules": ["q_proj"]}'})
    answer = ask(wire, "POST", f"/api/models/{qa}/commit/main", body, **{"User-Agent": agent})
    assert answer[0] == status, answer[2]
    said = answer[1]["X-Error-Message" if status != 200 else "X-HF-Warning"]
    assert "no new version" in said
    assert "hf repos branch delete wire/qa refs/draft/admin" in said
    assert [draft["ref"] for draft in wire.native("GET", f"/adapters/{qa}")["drafts"]] == ["refs/draft/admin"]
    assert ask(wire, "DELETE", f"/api/models/{qa}/branch/refs%2Fdraft%2Fadmin")[0] == 200


def test_a_card_alone_is_no_error_before_the_first_version(wire: Wire, api: HfApi) -> None:
    """A tokenizer or a card may come first: nobody takes that for an adapter."""
    api.create_repo("wire/card-first")
    agent = {"User-Agent": "unknown/None; hf_hub/0.36.0"}
    answer = ask(wire, "POST", "/api/models/wire/card-first/commit/main", commit_of("x", **{"a.md": b"# x"}), **agent)
    assert (answer[0], "no new version" in answer[1]["X-HF-Warning"]) == (200, True)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["README.md", "model.safetensors", "config.json"], "a full model"),
        (["pytorch_lora_weights.safetensors"], "diffusers"),
        (
            ["README.md", "poet/adapter_config.json", "poet/adapter_model.safetensors"],
            "hf upload NAMESPACE/NAME ./poet",
        ),
        (["last-checkpoint/optimizer.pt", "last-checkpoint/adapter_config.json"], "hub_strategy"),
    ],
)
def test_what_can_never_be_a_version_is_refused_before_it_is_sent(
    wire: Wire, qa: str, names: list[str], says: str
) -> None:
    files = [{"path": name, "size": 3, "sample": "e30K"} for name in names]
    answer = ask(wire, "POST", f"/api/models/{qa}/preupload/main", json.dumps({"files": files}).encode())
    assert answer[0] in {400, 422}
    assert says in answer[1]["X-Error-Message"]


def test_another_method_than_lora_is_refused_by_the_configs_first_bytes(wire: Wire, qa: str) -> None:
    sample = base64.b64encode(b'{"alpha": 8, "peft_type": "LOHA", "r": ').decode()
    files = [{"path": "adapter_config.json", "size": 800, "sample": sample}]
    answer = ask(wire, "POST", f"/api/models/{qa}/preupload/main", json.dumps({"files": files}).encode())
    assert (answer[0], "LOHA" in answer[1]["X-Error-Message"]) == (422, True)


def test_weights_go_through_lfs_where_a_client_has_no_xet(wire: Wire, qa: str, tmp_path: Path) -> None:
    upload = "import sys; from huggingface_hub import HfApi; a = HfApi(); a.create_repo(sys.argv[1]); "
    upload += "a.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])"
    with counting_proxy(wire.url) as counter:
        env = wire.client_env(tmp_path) | {"HF_ENDPOINT": counter.url, "HF_HUB_DISABLE_XET": "1"}
        folder = write_adapter(tmp_path / "lfs", seed=77)
        command = [sys.executable, "-c", upload, "wire/lfs", str(folder)]
        subprocess.run(command, env=env, check=True, capture_output=True)
        put = [seen for seen in counter.seen if seen.method == "PUT"]
    assert len(put) == 1
    assert "authorization" not in put[0].headers
    assert wire.native("GET", "/adapters/wire/lfs")["latest"] == "v1"


def test_an_upload_address_is_for_one_file_and_can_not_be_changed(wire: Wire, qa: str) -> None:
    batch = json.dumps({"operation": "upload", "objects": [{"oid": "ab" * 32, "size": 5}]}).encode()
    answer = json.loads(ask(wire, "POST", f"/{qa}.git/info/lfs/objects/batch", batch)[2])
    path = answer["objects"][0]["actions"]["upload"]["href"].removeprefix(wire.url)
    assert ask(wire, "PUT", path, b"other", Authorization="")[0] == 422
    assert ask(wire, "PUT", path[:-4] + "AAAA", b"other", Authorization="")[0] == 403
    assert ask(wire, "PUT", "/api/lfs", b"other", Authorization="")[0] == 403
    assert "ticket" not in wire.server.log_text()


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"parts": 5}',
        b'{"parts": [5]}',
        b'{"parts": [{"etag": "x"}]}',
        b'{"parts": [{"partNumber": "a", "etag": "x"}]}',
        b'{"parts": [{"partNumber": true, "etag": "x"}]}',
        b'{"parts": [{"partNumber": 1, "etag": 5}]}',
        b'{"parts": [{"partNumber": 1, "etag": "x"}]}',  # the ticket is for one whole file
    ],
)
def test_malformed_parts_of_an_upload_are_the_senders_mistake(wire: Wire, qa: str, body: bytes) -> None:
    batch = json.dumps({"operation": "upload", "objects": [{"oid": "cd" * 32, "size": 5}]}).encode()
    answer = json.loads(ask(wire, "POST", f"/{qa}.git/info/lfs/objects/batch", batch)[2])
    path = answer["objects"][0]["actions"]["upload"]["href"].removeprefix(wire.url)
    assert ask(wire, "POST", path, body, Authorization="")[0] == 400


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 400),
        ([{"key": "file", "value": {"path": "a.txt", "content": "YQ==", "encoding": "base64"}}], 400),
        ([{"key": "header", "value": {"summary": "x"}}, {"key": "unknown", "value": {}}], 400),
        ([{"key": "header", "value": {"summary": "x"}}, ["file"]], 400),
        ([{"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": {"path": "a", "content": 1}}], 400),
        ([{"key": "header", "value": {"summary": 5}}], 400),
        ([{"key": "header", "value": {"summary": "x", "parentCommit": "a" * 40}}], 412),
        (
            [
                {"key": "header", "value": {"summary": "x"}},
                {"key": "file", "value": {"path": "../a.txt", "content": "YQ==", "encoding": "base64"}},
            ],
            422,
        ),
        (
            [
                {"key": "header", "value": {"summary": "x"}},
                {"key": "file", "value": {"path": "evil.json", "content": "gASVLg==", "encoding": "base64"}},
            ],
            422,
        ),
        (
            [
                {"key": "header", "value": {"summary": "x"}},
                {"key": "lfsFile", "value": {"path": "w.safetensors", "algo": "sha256", "oid": "ab" * 32, "size": 9}},
            ],
            400,
        ),
    ],
)
def test_a_malformed_commit_changes_nothing(wire: Wire, qa: str, api: HfApi, lines: list[Any], status: int) -> None:
    before = api.model_info(qa).sha
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    answer = ask(wire, "POST", f"/api/models/{qa}/commit/main", body)
    assert answer[0] == status, answer[2]
    assert answer[1]["X-Error-Message"]
    assert api.model_info(qa).sha == before


def test_another_adapters_bytes_can_not_be_had_by_their_hash(wire: Wire, qa: str, tmp_path: Path) -> None:
    """A reader of nothing names the sha256 of a private adapter's weights: they count as not uploaded."""
    wire.server.cli("push", str(write_adapter(tmp_path / "private", seed=78)), "wire/private", "--private")
    wire.native("POST", "/users", {"name": "mallory"})
    wanted = {"name": "m", "scopes": ["publish"], "user": "mallory"}
    token = wire.native("POST", "/tokens", wanted)["secret"]
    files = wire.native("GET", "/adapters/wire/private/versions/v1")["manifest"]["files"]
    weights = next(file for file in files if file["path"] == "adapter_model.safetensors")
    HfApi(endpoint=wire.url, token=token).create_repo("mallory/copy")
    value = {"path": weights["path"], "algo": "sha256", "oid": weights["sha256"], "size": weights["size"]}
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": value}]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    answer = ask(wire, "POST", "/api/models/mallory/copy/commit/main", body, Authorization=f"Bearer {token}")
    assert answer[0] == 400, answer[2]
    assert b"not uploaded" in answer[2]


def test_commits_at_once_without_a_parent_all_land(wire: Wire, api: HfApi, folders: dict[str, Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    api.create_repo("wire/many")
    api.upload_folder(repo_id="wire/many", folder_path=str(folders["one"]))

    def add(number: int) -> str:
        operation = CommitOperationAdd(f"note-{number}.txt", str(number).encode())
        return api.create_commit("wire/many", [operation], commit_message=f"note {number}").oid

    with ThreadPoolExecutor(6) as pool:
        commits = list(pool.map(add, range(12)))
    assert len(set(commits)) == 12
    assert {f"note-{number}.txt" for number in range(12)} <= set(api.list_repo_files("wire/many"))
    assert wire.native("GET", "/adapters/wire/many")["latest"] == "v13"
    headers = {"Authorization": f"Bearer {wire.token}"}
    pages = paginate(f"{wire.url}/api/models/wire/many/commits/main", {"limit": 4}, headers)
    assert [commit["id"] for commit in pages] == [commit.commit_id for commit in api.list_repo_commits("wire/many")]


def test_git_clone_says_what_to_do_instead(wire: Wire, qa: str, tmp_path: Path) -> None:
    for address in (f"{wire.url}/{qa}", f"{wire.url}/{qa}.git", f"{wire.url}/wire/nothing"):
        command = ["git", "clone", address, str(tmp_path / "clone")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode != 0
        assert "hf download wire/" in done.stderr, done.stderr


def test_a_deprecated_adapter_says_what_to_use_instead(wire: Wire, qa: str, folders: dict[str, Path]) -> None:
    wire.server.cli("push", str(folders["one"]), "wire/old")
    wire.native("PUT", "/adapters/wire/old/deprecation", {"reason": "Its data was wrong", "successor": qa})
    _, headers, _ = ask(wire, "GET", "/api/models/wire/old")
    told = "wire/old is deprecated: Its data was wrong. Use wire/qa instead."
    assert headers["X-HF-Warning"] == f"deprecated wire/old; {told}"


def test_a_reader_may_not_write_anything(wire: Wire, qa: str) -> None:
    calls = [
        ("POST", f"/api/models/{qa}/preupload/main", {"files": []}),
        ("POST", f"/api/models/{qa}/commit/main", {"key": "header", "value": {"summary": "x"}}),
        ("POST", f"/{qa}.git/info/lfs/objects/batch", {"operation": "upload", "objects": []}),
        ("POST", "/api/repos/create", {"name": "x", "organization": "wire"}),
        ("DELETE", "/api/repos/delete", {"name": "qa", "organization": "wire"}),
        ("PUT", f"/api/models/{qa}/settings", {"private": True}),
        ("POST", f"/api/models/{qa}/tag/v1", {"tag": "mine"}),
        ("DELETE", f"/api/models/{qa}/tag/prod", None),
        ("GET", f"/api/models/{qa}/xet-write-token/main", None),
    ]
    for method, path, body in calls:
        data = None if body is None else json.dumps(body).encode()
        answer = ask(wire, method, path, data, Authorization=f"Bearer {wire.reader_token}")
        assert answer[0] == 403, (method, path, answer)
        assert answer[1]["X-Error-Message"]
        assert ask(wire, method, path, data, Authorization="")[0] == 401, (method, path)
