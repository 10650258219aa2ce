"""A token that is a canary: used everywhere, found nowhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx2

from tests.server.wire import ask, workers_of
from tests.support.adapters import write_adapter
from tests.support.server import clean_env, run_cli, running_server
from tests.web.api import Api, OverSocket


def test_a_token_is_in_no_log_error_argument_url_metric_or_row(tmp_path: Path) -> None:
    outputs: list[str] = []
    with running_server(tmp_path, "--workers", "2") as server:
        canary = server.cli("token", "create", "canary", "--scope", "admin").stdout.strip()
        folder = str(write_adapter(tmp_path / "a"))
        broken = tmp_path / "broken"
        broken.mkdir()
        commands = (
            ["push", folder, "task/qa"],
            ["pull", "task/qa@v1"],
            ["whoami", "--json"],
            ["namespace", "audit", "--json"],
            ["pull", "task/none@v7"],
            ["push", str(broken), "task/qa"],
        )
        for command in commands:
            done = server.cli(*command, check=False, LORAHUB_TOKEN=canary, LORAHUB_DEBUG="1")
            outputs += [done.stdout, done.stderr]
        outputs += _misuse(server.url, canary)
        outputs += _over_the_wire(server.url, canary)
        outputs += _in_a_browser(server.url, canary)
        outputs += _command_lines(server.process.pid)
        outputs.append(OverSocket(server.url).send("GET", "/metrics", {}, None).body.decode())
        data = server.data
    outputs.append((tmp_path / "server.log").read_text("utf-8"))
    for number, text in enumerate(outputs):
        assert canary not in text, f"output {number} tells the token"
        assert canary.removeprefix("lhub_") not in text
    for path in data.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), f"{path.name} keeps the token"


def _misuse(url: str, canary: str) -> list[str]:
    """Send the token where it doesn't belong, and collect what the server says to that."""
    api = Api(OverSocket(url), canary)
    answers = [
        api.call("GET", f"/whoami?token={canary}"),
        api.call("GET", f"/adapters/{canary}/x"),
        api.call("GET", f"/adapters?sort={canary}"),
        api.call("GET", f"/{canary}"),
        api.as_(canary + "x").call("GET", "/whoami"),
        api.call("GET", "/whoami", headers={"Authorization": f"Basic {canary}"}),
        api.call("POST", "/tokens", {"name": "x", "scopes": [canary]}),
        api.call("POST", "/adapters/task/qa/import", {"url": "http://127.0.0.1:9/x/y", "token": canary}),
    ]
    ask(url, f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {canary}\r\nBad Header: x\r\n\r\n".encode())
    ask(url, f"GET /{canary} HTTP/9.9\r\n\r\n".encode())
    # An error may show the caller its own words again; what it must not do is show the header's.
    shown = [answer.body.decode() for answer in answers if canary not in str(answer)]
    return [*shown, *(answer.body.decode() for answer in answers[4:6])]


def _over_the_wire(url: str, canary: str) -> list[str]:
    """What a stock Hugging Face client is told: the addresses and tokens that it is given stand for the token, and
    are not it."""
    api, repo = Api(OverSocket(url), canary), "/api/models/task/qa"
    lfs = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": "ab" * 32, "size": 20_000_000}]}
    files = {"files": [{"path": "x.safetensors", "size": 20_000_000, "sample": "eA=="}]}
    git = {"Authorization": f"Bearer {canary}", "Content-Type": "application/json"}
    answers = [
        api.call("GET", "/api/whoami-v2"),
        api.call("POST", f"{repo}/preupload/main", files),
        api.sender.send("POST", "/task/qa.git/info/lfs/objects/batch", git, json.dumps(lfs).encode()),
        api.call("GET", f"{repo}/xet-write-token/main"),
        api.call("GET", f"{repo}/xet-read-token/v1"),
        api.call("POST", f"{repo}/commit/main", body=b"no commit"),
        api.call("POST", "/api/repos/create", {"name": "qa", "organization": "nobody-s"}),
        api.call("GET", f"{repo}/resolve/v1/adapter_config.json"),
    ]
    assert [answer.status for answer in answers[:5]] == [200] * 5
    return [f"{answer.headers} {answer.body.decode()}" for answer in answers]


def _in_a_browser(url: str, canary: str) -> list[str]:
    """A login with the token, one with a token that is nearly it, and the pages behind."""
    shown = []
    with httpx2.Client(base_url=url, trust_env=False, headers={"Accept": "text/html"}) as browser:
        for token in (canary + "x", canary):
            page = browser.get("/login").text
            csrf = page.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]
            form = {"token": token, "csrf_token": csrf}
            done = browser.post("/login", data=form, headers={"Referer": f"{url}/login"})
            shown.append(f"{done.status_code} {done.headers} {done.text}")
        account = browser.get("/account").text
    assert "admin" in account
    return [*shown, account]


def _command_lines(pid: int) -> list[str]:
    processes = [pid, *(worker.pid for worker in workers_of(pid))]
    return [Path(f"/proc/{one}/cmdline").read_bytes().decode().replace("\0", " ") for one in processes]


def test_a_databases_password_is_not_repeated(tmp_path: Path) -> None:
    env = clean_env(tmp_path) | {"LORAHUB_DATABASE": "postgresql://lorahub:hunter2canary@127.0.0.1:9/none"}
    done = run_cli("serve", "--port", "0", "--data", str(tmp_path / "data"), env=env | {"LORAHUB_DEBUG": ""})
    assert done.returncode == 1
    assert "hunter2canary" not in done.stdout + done.stderr
    assert "database" in done.stderr


def test_the_config_with_the_token_is_its_owners_alone(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        config = Path(server.env["LORAHUB_CONFIG"])
        assert os.stat(config).st_mode & 0o077 == 0
        database = server.data / "registry.sqlite3"
        assert server.token.encode() not in database.read_bytes()
