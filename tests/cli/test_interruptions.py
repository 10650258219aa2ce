"""Ctrl-C, SIGKILL, broken lines, damaged bytes, servers that are gone: over real processes and real sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Machine
from tests.cli.test_bad_input import same_files
from tests.support.adapters import write_adapter
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.server import RunningServer, clean_env, running_server

SLOW = Fault(bytes_per_second=750_000)
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of 3.1 MB."""
    return write_adapter(tmp_path_factory.mktemp("large"), rank=64, hidden=1024, layers=3, seed=31)


@pytest.fixture(scope="module")
def pushed(large: Path, server: RunningServer) -> str:
    return server.cli("push", str(large), "cut/large").stdout.strip()


@pytest.fixture
def proxy(server: RunningServer):
    with FaultProxy(int(server.url.rpartition(":")[2])) as running:
        yield running


def start(machine: Machine, *arguments: str) -> subprocess.Popen[str]:
    """Start a command as a terminal would: a test run in the background ignores SIGINT, and its children with it."""
    command = [sys.executable, "-m", "hub.cli", *arguments]
    return subprocess.Popen(
        command,
        env=machine.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"{what} did not happen"
        time.sleep(0.01)


def wait_until_still(value: Callable[[], int], seconds: float = 0.5) -> None:
    """Wait until `value` has been the same for so long, and what is still on its way has arrived."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.01)
        if value() != last:
            last, since = value(), time.monotonic()


def partial_size(machine: Machine) -> int:
    """Return how much of the download is there, while another process goes on with it."""
    sizes = [0]
    for path in (machine.cache / "partial").glob("*"):
        if path.suffix != ".etag" and not path.name.startswith(".new-"):
            with contextlib.suppress(FileNotFoundError):  # it has just become whole
                sizes.append(path.stat().st_size)
    return max(sizes)


def test_ctrl_c_while_pulling_is_exit_130_and_the_next_pull_goes_on(machine, proxy, pushed, large):
    proxy.always = SLOW
    machine.env["LORAHUB_ENDPOINT"] = proxy.url
    child = start(machine, "pull", pushed)
    wait_for(lambda: partial_size(machine) > 1_000_000, "a megabyte of the download")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert out == ""
    assert err.strip().startswith("error: interrupted.")
    assert "Traceback" not in err
    kept = partial_size(machine)
    assert kept > 1_000_000
    before = proxy.bytes_toward["client"]
    proxy.always = None
    assert same_files(large, Path(machine.ok("pull", pushed).strip()))
    assert proxy.bytes_toward["client"] - before < large_size(large) - kept + 200_000, "only the rest was fetched"


def large_size(large: Path) -> int:
    return (large / WEIGHTS).stat().st_size


def test_a_pull_that_is_killed_again_and_again_arrives(machine, proxy, pushed, large):
    proxy.always = SLOW
    machine.env["LORAHUB_ENDPOINT"] = proxy.url
    reached = 0
    for _ in range(3):
        child = start(machine, "pull", pushed)
        wait_for(lambda so_far=reached: partial_size(machine) > so_far + 300_000, "progress")
        child.kill()
        child.communicate(timeout=30)
        assert partial_size(machine) >= reached
        reached = partial_size(machine)
    before, proxy.always = proxy.bytes_toward["client"], None
    assert same_files(large, Path(machine.ok("pull", pushed).strip()))
    assert proxy.bytes_toward["client"] - before < large_size(large) - reached + 200_000


def test_a_push_that_is_killed_goes_on_from_the_servers_offset(machine, proxy, tmp_path, server):
    # Larger than what the sockets on the way hold, so that some of it has not left the child when it dies.
    folder = write_adapter(tmp_path / "adapter", rank=64, hidden=1024, layers=14, seed=32)
    proxy.always = Fault(toward="server", bytes_per_second=4_000_000)
    machine.env["LORAHUB_ENDPOINT"] = proxy.url
    child = start(machine, "push", str(folder), "cut/killed")
    wait_for(lambda: proxy.bytes_toward["server"] > 1_500_000, "a part of the upload")
    child.kill()
    child.communicate(timeout=30)
    wait_until_still(lambda: proxy.bytes_toward["server"])
    assert machine.run("show", "cut/killed").code == 3, "nothing is visible before all of it is there"
    before, proxy.always = proxy.bytes_toward["server"], None
    assert machine.ok("push", str(folder), "cut/killed") == "cut/killed@v1\n"
    assert proxy.bytes_toward["server"] - before < large_size(folder) - 1_400_000, "the first part was not sent again"


@pytest.mark.parametrize(("kind", "at"), [("cut_at", 700_000), ("reset_at", 2_000_000)])
def test_a_push_over_a_line_that_breaks_arrives(machine, proxy, tmp_path, kind, at):
    """Each connection ends after so many bytes; a reset also costs what the server had not yet read."""
    folder = write_adapter(tmp_path / "adapter", rank=64, hidden=1024, layers=3, seed=at)
    proxy.always = Fault(toward="server", **{kind: at})
    machine.env["LORAHUB_ENDPOINT"] = proxy.url
    assert machine.ok("push", str(folder), f"cut/{kind.replace('_', '-')}").strip().endswith("@v1")
    assert proxy.connections >= 2


def test_a_byte_flipped_on_the_way_up_is_sent_again(machine, proxy, tmp_path):
    folder = write_adapter(tmp_path / "adapter", rank=64, hidden=1024, layers=1, seed=34)
    proxy.script = [Fault(toward="server", flip_at=200_000)] * 4
    machine.env["LORAHUB_ENDPOINT"] = proxy.url
    assert machine.ok("push", str(folder), "cut/flipped-up") == "cut/flipped-up@v1\n"
    fetched = Path(machine.ok("pull", "cut/flipped-up@v1").strip())
    assert same_files(folder, fetched)


def test_a_byte_flipped_on_the_way_down_is_fetched_again(machine, proxy, pushed, large):
    proxy.always, proxy.flips_left = Fault(flip_at=300_000), 1
    machine.env["LORAHUB_ENDPOINT"] = proxy.url
    assert same_files(large, Path(machine.ok("pull", pushed).strip()))
    assert proxy.flips_left == 0
    assert proxy.bytes_toward["client"] > 2 * large_size(large)


def test_a_byte_flipped_on_the_servers_disk_is_exit_6_and_is_never_used(machine, server, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=35)
    ref = machine.ok("push", str(folder), "cut/rotten").strip()
    files = json.loads(machine.ok("show", ref, "--json"))["manifest"]["files"]
    sha256 = next(file["sha256"] for file in files if file["path"] == WEIGHTS)
    stored = next(path for path in (server.data / "blobs").rglob(f"*{sha256}*") if path.is_file())
    stored.chmod(0o644)
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    result = machine.run("pull", ref)
    assert result.code == 6
    assert WEIGHTS in result.err
    assert "lorahub fsck" in result.err
    assert not list((machine.cache / "snapshots").rglob(WEIGHTS))


def test_a_byte_flipped_in_the_cache_is_noticed_and_fetched_again(machine, pushed, large, tmp_path):
    folder = Path(machine.ok("pull", pushed).strip())
    path = folder / WEIGHTS
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01\x02\x03")
    assert machine.run("verify", pushed).code == 6
    assert same_files(large, Path(machine.ok("pull", pushed).strip()))


def test_two_processes_that_pull_the_same_version_fetch_it_once(machine, proxy, pushed, large):
    proxy.always = SLOW
    machine.env["LORAHUB_ENDPOINT"] = proxy.url
    children = [start(machine, "pull", pushed) for _ in range(2)]
    results = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert same_files(large, Path(results[0][0].strip()))
    assert proxy.bytes_toward["client"] < large_size(large) + 200_000


# --- the registry is away


def test_a_cached_version_loads_without_its_server(tmp_path, monkeypatch):
    """By version, alias and digest; what is not in the cache is exit 8 with the next step."""
    machine = Machine(tmp_path, clean_env(tmp_path / "me"), monkeypatch)
    folder = write_adapter(tmp_path / "adapter", seed=36)
    with running_server(tmp_path / "server") as running:
        machine.env |= {"LORAHUB_ENDPOINT": running.url, "LORAHUB_TOKEN": running.token}
        ref = machine.ok("push", str(folder), "task/qa", "--alias", "prod").strip()
        digest = json.loads(machine.ok("show", ref, "--json"))["digest"]
        path = machine.ok("pull", "task/qa@prod")
        machine.ok("yank", ref, "--reason", "trained on the test set")
        machine.ok("show", ref)
    online = machine.run("pull", ref)
    assert online.code == 8
    assert "LORAHUB_OFFLINE=1" in online.err
    machine.env["LORAHUB_OFFLINE"] = "1"
    for selector in ("v1", "prod", f"sha256:{digest}"):
        result = machine.run("pull", f"task/qa@{selector}")
        assert (result.code, result.out) == (0, path), result.err
        assert "warning: task/qa@v1 was yanked: trained on the test set" in result.err
    missing = machine.run("pull", "task/qa@v2")
    assert missing.code == 8
    assert "task/qa@v1" in missing.err
    assert "lorahub pull task/qa@v2" in missing.err
    assert machine.run("list").code == 8


def test_a_yanked_version_warns_wherever_it_is_used(machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=37)
    ref = machine.ok("push", str(folder), "cut/yanked").strip()
    machine.ok("yank", ref, "--reason", "answers in Latin")
    for arguments in (["pull", ref], ["show", ref], ["summary", ref], ["diff", ref, str(folder)], ["verify", ref]):
        result = machine.run(*arguments)
        assert result.code == 0, result.err
        assert f"warning: {ref} was yanked: answers in Latin" in result.err, arguments
    assert "yanked: answers in Latin" in machine.ok("show", "cut/yanked")
    assert machine.run("pull", "cut/yanked").code == 3, "latest passes a yanked version over"
    machine.ok("unyank", ref)
    assert "warning" not in machine.run("pull", "cut/yanked").err


# --- secrets


def test_the_token_appears_in_no_output_log_or_file_but_the_config(machine, server, tmp_path):
    """Every command of a session, with a token that nobody could miss, then a search through all that was written."""
    created = json.loads(machine.ok("token", "create", "canary", "--scope", "read", "--scope", "publish", "--json"))
    token = created["secret"]
    machine.env["LORAHUB_TOKEN"] = token
    folder = write_adapter(tmp_path / "adapter", seed=38)
    ref = machine.ok("push", str(folder), "cut/canary").strip()
    session = (
        f"pull {ref}; list; search canary; show {ref} --json; whoami --json; doctor --json; alias {ref} prod;"
        f"verify {ref}; cache list --json; pull cut/none; pull cut/none --json; logout"
    )
    for command in session.split(";"):
        machine.run(*command.split())
    machine.run("push", str(folder), "not-my/own", LORAHUB_ENDPOINT="http://127.0.0.1:9")
    shown = "".join(result.out + result.err for result in machine.results[1:])
    assert token not in shown
    assert token not in server.log_text()
    for path in [*machine.cache.rglob("*"), *server.data.rglob("*")]:
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


def test_login_stores_the_token_where_only_its_owner_can_read_it(machine, server, monkeypatch, tmp_path):
    import io

    token = machine.env.pop("LORAHUB_TOKEN")
    machine.env.pop("LORAHUB_ENDPOINT")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{token}\n"))
    result = machine.run("login", server.url)
    assert result.code == 0, result.err
    assert token not in result.out + result.err
    path = Path(machine.env["LORAHUB_CONFIG"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert "admin" in machine.ok("whoami")
    machine.ok("logout")
    assert token not in path.read_text()
    assert machine.run("whoami").code == 4


def test_a_token_for_an_unencrypted_address_elsewhere_is_warned_about(lonely, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("lhub_x\n"))
    result = lonely.run("login", "http://registry.invalid")
    assert result.code == 8
    assert "warning: http://registry.invalid is not encrypted" in result.err


def test_the_command_line_takes_no_token(machine):
    for arguments in (["login", "--token", "lhub_x"], ["push", ".", "a/b", "--token", "lhub_x"]):
        assert machine.run(*arguments).code == 2


def test_a_closed_pipe_ends_quietly(machine, pushed):
    command = f"{sys.executable} -m hub.cli show {pushed} --json | head -c 10"
    done = subprocess.run(command, shell=True, env=machine.env, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr
