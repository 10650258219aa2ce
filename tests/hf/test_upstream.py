"""Repositories that are held elsewhere: a second lorahub as the upstream, and one that means harm."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, close_session
from huggingface_hub.utils import RepositoryNotFoundError

from hub.web.hf.upstream_cache import UpstreamCache
from tests.hf.conftest import Wire, prepare, seed_qa
from tests.hf.counting_proxy import Counter, counting_proxy
from tests.hf.threaded_app import threaded_app
from tests.support.server import running_server

LOOPBACK = {"LORAHUB_TRUSTED_HOSTS": "127.0.0.1"}


@dataclass(frozen=True)
class Pair:
    """near: a server whose upstream is `far`; counter: what it asks there."""

    near: Wire
    far: Wire
    counter: Counter
    qa: str

    def api(self, token: str | bool | None = None) -> HfApi:
        return HfApi(endpoint=self.near.url, token=self.near.token if token is None else token)


@pytest.fixture(scope="module")
def pair(wire: Wire, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    qa = seed_qa(wire, wire.namespace("far"), folders)
    with (
        counting_proxy(wire.url) as counter,
        running_server(tmp_path_factory.mktemp("near"), "--upstream", counter.url, **LOOPBACK) as server,
    ):
        yield Pair(prepare(server), wire, counter, qa)
        # A stopping server waits for connections that a client keeps open.
        close_session()


def get(url: str, token: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers | ({"Authorization": f"Bearer {token}"} if token else {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.status or 0, dict(error.headers), error.read()


def test_a_repository_is_read_through(pair: Pair, folders: dict[str, Path], tmp_path: Path) -> None:
    found = pair.api(False).snapshot_download(pair.qa, revision="v2", cache_dir=tmp_path)
    for path in folders["two"].iterdir():
        assert (Path(found) / path.name).read_bytes() == path.read_bytes()
    assert pair.api().model_info(pair.qa).sha == HfApi(endpoint=pair.far.url).model_info(pair.qa).sha
    assert pair.api().file_exists(pair.qa, "adapter_config.json")
    assert not pair.api().file_exists(pair.qa, "nothing.json")
    assert not pair.api().revision_exists(pair.qa, "v99")


def test_what_was_read_once_is_not_fetched_again(pair: Pair, tmp_path: Path) -> None:
    pair.api().snapshot_download(pair.qa, revision="v1", cache_dir=tmp_path / "first")
    pair.counter.forget()
    pair.api().snapshot_download(pair.qa, revision="v1", cache_dir=tmp_path / "second")
    assert not [seen for seen in pair.counter.seen if seen.method == "GET" and "/resolve/" in seen.path]


def test_a_callers_token_is_never_passed_on(pair: Pair, tmp_path: Path) -> None:
    pair.counter.forget()
    pair.api().snapshot_download(pair.qa, revision="prod", cache_dir=tmp_path)
    pair.api().get_paths_info(pair.qa, ["adapter_config.json"])
    assert pair.counter.seen
    assert not [seen for seen in pair.counter.seen if "authorization" in seen.headers or "cookie" in seen.headers]


def test_a_namespace_that_exists_here_is_never_looked_up_there(pair: Pair, folders: dict[str, Path]) -> None:
    seed_qa(pair.far, pair.far.namespace("both"), folders)
    assert pair.api().model_info("both/qa").id == "both/qa"
    pair.near.namespace("both")
    pair.counter.forget()
    with pytest.raises(RepositoryNotFoundError):
        pair.api().model_info("both/qa")
    assert pair.counter.seen == []


def test_what_is_not_there_either_is_not_found(pair: Pair) -> None:
    for name in ("far/nothing", "no-namespace"):
        with pytest.raises(RepositoryNotFoundError):
            pair.api().model_info(name)
        with pytest.raises(RepositoryNotFoundError):
            pair.api(False).hf_hub_download(name, "config.json")


def test_a_part_of_a_file_is_read_through(pair: Pair, folders: dict[str, Path]) -> None:
    weights = (folders["two"] / "adapter_model.safetensors").read_bytes()
    url = f"{pair.near.url}/{pair.qa}/resolve/v2/adapter_model.safetensors"
    status, headers, body = get(url, Range="bytes=100-149")
    assert (status, body) == (206, weights[100:150])
    assert headers["Content-Range"] == f"bytes 100-149/{len(weights)}"


def test_an_address_can_not_climb_out_of_a_repository(pair: Pair) -> None:
    pair.counter.forget()
    for path in ("%2e%2e/%2e%2e/api/whoami-v2", "..%2f..%2fapi%2fwhoami-v2"):
        assert get(f"{pair.near.url}/{pair.qa}/resolve/main/{path}", pair.near.token)[0] in {400, 404}
    assert pair.counter.seen == []


def test_the_servers_token_opens_private_repositories_for_those_who_are_known(
    wire: Wire, folders: dict[str, Path], tmp_path: Path
) -> None:
    namespace = wire.namespace("secrets")
    name = f"{namespace}/hidden"
    wire.server.cli("push", str(folders["one"]), name, "--private")
    with threaded_app(tmp_path, upstream=wire.url, upstream_token=wire.token, trusted_hosts=("127.0.0.1",)) as server:
        found = HfApi(endpoint=server.url, token=server.token).hf_hub_download(
            name, "adapter_config.json", local_dir=tmp_path / "file"
        )
        assert Path(found).read_bytes() == (folders["one"] / "adapter_config.json").read_bytes()
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=server.url, token=False).model_info(name)


def test_private_addresses_are_refused_unless_trusted(wire: Wire, tmp_path: Path) -> None:
    with counting_proxy(wire.url) as counter, threaded_app(tmp_path, upstream=counter.url) as server:
        status, _, body = get(f"{server.url}/api/models/far/qa", server.token)
        assert status == 400
        assert b"no public address" in body
        assert counter.seen == []


def test_an_upstream_that_is_down_costs_nothing_that_was_read_before(
    wire: Wire, folders: dict[str, Path], tmp_path: Path
) -> None:
    qa = seed_qa(wire, wire.namespace("going-down"), folders)
    with ExitStack() as far:
        proxy = far.enter_context(counting_proxy(wire.url))
        with threaded_app(tmp_path / "near", upstream=proxy.url, trusted_hosts=("127.0.0.1",)) as near:
            api = HfApi(endpoint=near.url, token=near.token)
            api.snapshot_download(qa, cache_dir=tmp_path / "first")
            far.close()
            found = api.snapshot_download(qa, cache_dir=tmp_path / "second")
            assert (Path(found) / "README.md").read_bytes() == (folders["two"] / "README.md").read_bytes()
            assert get(f"{near.url}/api/models/going-down/other", near.token)[0] == 503


def test_a_kept_file_that_another_worker_removes_meanwhile_comes_from_the_upstream(
    wire: Wire, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qa = seed_qa(wire, wire.namespace("room"), folders)
    weights = (folders["two"] / "adapter_model.safetensors").read_bytes()
    with threaded_app(tmp_path / "near", upstream=wire.url, trusted_hosts=("127.0.0.1",)) as near:
        url = f"{near.url}/{qa}/resolve/v2/adapter_model.safetensors"
        assert get(url)[2] == weights
        find, removed = UpstreamCache.find, []

        def find_and_lose(cache: UpstreamCache, etag: str, size: int) -> Path | None:
            found = find(cache, etag, size)
            if found is not None:
                removed.append(found)
                found.unlink()
            return found

        monkeypatch.setattr(UpstreamCache, "find", find_and_lose)
        status, _, body = get(url)
        assert (status, body) == (200, weights)
        status, _, body = get(url, Range="bytes=100-149")
        assert (status, body) == (206, weights[100:150])
        assert len(removed) == 2


def test_a_server_that_can_keep_nothing_passes_everything_on(
    wire: Wire, folders: dict[str, Path], tmp_path: Path
) -> None:
    qa = seed_qa(wire, wire.namespace("no-room"), folders)
    with threaded_app(tmp_path / "near", upstream=wire.url, trusted_hosts=("127.0.0.1",)) as near:
        (tmp_path / "near" / "upstream").write_text("where the cache's folder should be")
        api = HfApi(endpoint=near.url, token=near.token)
        found = Path(api.snapshot_download(qa, revision="v2", cache_dir=tmp_path / "hf"))
        for path in folders["two"].iterdir():
            assert (found / path.name).read_bytes() == path.read_bytes()
        assert api.model_info(qa).id == qa


def test_it_is_off_by_default(wire: Wire) -> None:
    assert get(f"{wire.url}/api/models/openai-community/gpt2")[0] == 401
    assert get(f"{wire.url}/gpt2/resolve/main/config.json", wire.token)[0] == 404


# An upstream that means harm --------------------------------------------------------------------------------------

GOOD = b'{"model_type": "llama"}'
COMMIT = "c" * 40


class Hostile(BaseHTTPRequestHandler):
    """`lies` sends other bytes than its ETag says, `leads-away` redirects to a cloud's metadata, `xet` names Xet."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        if "leads-away" in self.path:
            self._send(302, b"", Location="http://169.254.169.254/latest/meta-data")
            return
        etag = hashlib.sha256(GOOD).hexdigest()
        self._send(200, GOOD, ETag=f'"{etag}"', **{"X-Xet-Hash": "d" * 64, "X-Repo-Commit": COMMIT})

    def do_GET(self) -> None:
        if "/api/models/" in self.path:
            tree = [{"type": "file", "path": "config.json", "size": 1, "oid": "a" * 40, "xetHash": "d" * 64}]
            self._send(200, json.dumps(tree).encode(), **{"X-Xet-Refresh-Route": "/x", "X-Repo-Commit": COMMIT})
        elif "leads-away" in self.path:
            self._send(302, b"", Location="http://169.254.169.254/latest/meta-data")
        else:
            self._send(200, GOOD.replace(b"llama", b"lemma") if "lies" in self.path else GOOD)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture(scope="module")
def behind_hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    hostile = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=hostile.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{hostile.server_port}"
    with threaded_app(tmp_path_factory.mktemp("behind"), upstream=url, trusted_hosts=("127.0.0.1",)) as server:
        yield server.url
    hostile.shutdown()
    hostile.server_close()


def test_wrong_bytes_never_arrive_whole_and_are_not_kept(behind_hostile: str) -> None:
    for _ in range(2):
        with pytest.raises((OSError, EOFError)):
            _read_fully(f"{behind_hostile}/some/lies/resolve/main/config.json")
    assert get(f"{behind_hostile}/some/model/resolve/main/config.json")[2] == GOOD


def _read_fully(url: str) -> None:
    with urllib.request.urlopen(url, timeout=30) as answer:
        data = answer.read()
        if len(data) < int(answer.headers["Content-Length"]):
            raise EOFError


def test_a_redirect_to_a_private_address_is_not_followed(behind_hostile: str) -> None:
    assert get(f"{behind_hostile}/some/leads-away/resolve/main/config.json")[0] in {400, 503}


def test_no_client_is_sent_to_the_upstreams_xet_storage(behind_hostile: str) -> None:
    _, headers, body = get(f"{behind_hostile}/api/models/some/xet/tree/main")
    assert json.loads(body)[0]["path"] == "config.json"
    assert b"xet" not in body.lower()
    _, more, _ = get(f"{behind_hostile}/some/xet/resolve/main/config.json")
    assert not [name for name in (*headers, *more) if "xet" in name.lower()]
