"""What an operator does beside a running server: users, tokens, namespaces, backup, garbage, checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, run_cli, running_server
from tests.web.api import Api, OverSocket


def test_a_user_gets_a_token_and_a_namespace_and_pushes(server: RunningServer, tmp_path: Path) -> None:
    server.cli("user", "create", "ada")
    secret = server.cli(
        "token", "create", "laptop", "--user", "ada", "--scope", "publish", "--days", "30"
    ).stdout.strip()
    assert secret.startswith("lhub_")
    folder = str(write_adapter(tmp_path / "a", seed=1))
    assert "ada/mine@v1" in server.cli("push", folder, "ada/mine", LORAHUB_TOKEN=secret).stdout
    refused = server.cli("push", folder, "team/mine", check=False, LORAHUB_TOKEN=secret)
    assert refused.returncode in {3, 4}
    server.cli("namespace", "create", "team", "--private")
    server.cli("namespace", "add", "team", "ada", "--role", "publisher")
    assert "team/mine@v1" in server.cli("push", folder, "team/mine", LORAHUB_TOKEN=secret).stdout
    shown = json.loads(server.cli("namespace", "show", "team", "--json").stdout)
    assert {(member["user"], member["role"]) for member in shown["members"]} == {
        ("admin", "owner"),
        ("ada", "publisher"),
    }
    server.cli("namespace", "remove", "team", "ada")
    assert server.cli("pull", "team/mine@v1", check=False, LORAHUB_TOKEN=secret).returncode == 3
    server.cli("user", "disable", "ada")
    assert server.cli("whoami", check=False, LORAHUB_TOKEN=secret).returncode == 4


@pytest.mark.slow
def test_a_revoked_token_stops_at_once(server: RunningServer) -> None:
    made = json.loads(server.cli("token", "create", "ci", "--json").stdout)
    assert made["secret"] not in server.cli("token", "list", "--json").stdout
    server.cli("token", "revoke", str(made["id"]))
    assert server.cli("whoami", check=False, LORAHUB_TOKEN=made["secret"]).returncode == 4
    listed = json.loads(server.cli("token", "list", "--json").stdout)
    assert next(item for item in listed if item["id"] == made["id"])["revoked_at"]


@pytest.mark.slow
def test_a_quota_is_held_and_told(server: RunningServer, tmp_path: Path) -> None:
    server.cli("namespace", "create", "small")
    server.cli("namespace", "quota", "small", "--bytes", "1000")
    refused = server.cli("push", str(write_adapter(tmp_path / "b", seed=2)), "small/x", check=False)
    assert refused.returncode == 1
    assert "1,000" in refused.stderr or "quota" in refused.stderr.lower()


@pytest.mark.slow
def test_every_change_is_in_the_audit_log(server: RunningServer) -> None:
    server.cli("namespace", "create", "logged")
    events = json.loads(server.cli("namespace", "audit", "logged", "--json").stdout)
    assert [(event["user"], event["target"]) for event in events] == [("admin", "logged")]


def test_all_is_restored_from_a_backup_made_while_serving(server: RunningServer, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "c", seed=3)
    server.cli("push", str(folder), "saved/one", "--alias", "prod")
    server.cli("backup", str(tmp_path / "backup"), "--data", str(server.data))
    restored = tmp_path / "restored"
    server.cli("restore", str(tmp_path / "backup"), "--data", str(restored / "data"))
    server.cli("fsck", "--data", str(restored / "data"))
    with running_server(restored) as other:
        api = Api(OverSocket(other.url), server.token)
        weights = api.get("/adapters/saved/one/versions/prod/files/adapter_model.safetensors").body
    assert weights == (folder / "adapter_model.safetensors").read_bytes()


def test_garbage_goes_and_what_is_used_stays(server: RunningServer, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "d", seed=4)
    server.cli("push", str(folder), "kept/one")
    before = server.cli("gc", "--dry-run", "--grace-hours", "0", "--data", str(server.data)).stdout
    assert before.startswith("would remove")
    server.cli("gc", "--grace-hours", "0", "--data", str(server.data))
    assert "0 problems" in server.cli("fsck", "--data", str(server.data)).stdout
    assert Path(server.cli("pull", "kept/one@v1").stdout.strip()).is_dir()


@pytest.mark.slow
def test_fsck_names_the_version_that_a_flipped_byte_hurts(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.cli("push", str(write_adapter(tmp_path / "e", seed=5)), "task/qa")
        blobs = sorted((server.data / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
        hurt = next(path for path in reversed(blobs) if path.is_file())
        hurt.chmod(0o600)
        data = bytearray(hurt.read_bytes())
        data[-1] ^= 1
        hurt.write_bytes(bytes(data))
        done = server.cli("fsck", "--data", str(server.data), check=False)
        assert done.returncode == 6
        assert "task/qa@v1" in done.stdout
        pulled = server.cli("pull", "task/qa@v1", check=False)
        assert pulled.returncode == 6


def test_the_schema_is_shown_and_is_the_newest(server: RunningServer) -> None:
    found = json.loads(server.cli("db", "status", "--data", str(server.data), "--json").stdout)
    assert found["current"] == found["needed"] == found["history"][-1][0]
    assert "already" in server.cli("db", "upgrade", "--data", str(server.data)).stdout


def test_an_operators_command_creates_no_registry_by_mistake(server: RunningServer, tmp_path: Path) -> None:
    for command in (["gc"], ["fsck"], ["db", "status"], ["backup", str(tmp_path / "x")], ["token", "recover"]):
        done = server.cli(*command, "--data", str(tmp_path / "nowhere"), check=False)
        assert done.returncode == 3, done.stderr
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_a_lost_admin_token_is_made_anew_on_the_servers_machine(server: RunningServer) -> None:
    secret = server.cli("token", "recover", "--data", str(server.data)).stdout.strip()
    shown = json.loads(server.cli("whoami", "--json", LORAHUB_TOKEN=secret).stdout)
    assert shown["admin"] is True


@pytest.mark.slow
def test_a_second_start_keeps_everything_and_prints_no_token(tmp_path: Path) -> None:
    with running_server(tmp_path) as first:
        first.cli("push", str(write_adapter(tmp_path / "f", seed=6)), "task/qa")
        token = first.token
    with running_server(tmp_path) as second:
        api = Api(OverSocket(second.url), token)
        assert api.get("/adapters/task/qa/versions/latest").json["ref"] == "task/qa@v1"


def test_a_port_that_is_taken_is_an_error_with_a_next_step(server: RunningServer, tmp_path: Path) -> None:
    port = server.url.rsplit(":", 1)[1]
    done = run_cli("serve", "--port", port, "--data", str(tmp_path / "data"), env=server.env)
    assert done.returncode == 1
    assert "--port" in done.stderr


def test_a_config_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.support.server import clean_env

    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    env = clean_env(tmp_path) | {"LORAHUB_CONFIG": str(blocked / "config.json")}
    command = [sys.executable, "-m", "hub.cli", "serve", "--port", "0", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("lorahub is ready"):
                break
    finally:
        process.terminate()
        process.wait(30)
    text = "".join(lines)
    assert "lhub_" in text
    assert "could not be stored" in text
    assert "lorahub login" in text
