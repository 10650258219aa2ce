"""A real `lorahub serve` in a process of its own, on a free loopback port, with a data folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY = "lorahub is ready: "
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RunningServer:
    """url: where it listens.  token: the admin's.  env: what a command needs to talk to it as the admin."""

    url: str
    token: str
    data: Path
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[str]

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def cli(self, *args: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `lorahub *args` against this server; with `check`, a non-zero exit fails the test with its output."""
        done = run_cli(*args, env=self.env | env)
        if check:
            assert done.returncode == 0, (
                f"lorahub {' '.join(args)} exited {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done


def run_cli(*args: str, env: Mapping[str, str], timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "hub.cli", *args],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def clean_env(folder: Path) -> dict[str, str]:
    """Return the environment without any LORAHUB_* or HF_* setting, and with config and caches below `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LORAHUB_", "HF_"))}
    return kept | {
        "LORAHUB_CONFIG": str(folder / "config" / "config.json"),
        "LORAHUB_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "hf"),
        "NO_COLOR": "1",
    }


@contextmanager
def running_server(
    folder: Path, *flags: str, program: Sequence[str] = ("-m", "hub.cli"), **env: str
) -> Iterator[RunningServer]:
    """Start `lorahub serve --port 0`, wait until it says that it listens, and stop it with SIGTERM afterwards.

    folder: gets data/, config/, cache/ and server.log.  flags: more of `serve`'s.  env: more environment.
    program: what Python runs as `lorahub`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = clean_env(folder) | env
    data = folder / "data"
    log = folder / "server.log"
    command = [sys.executable, *program, "serve", "--port", "0", "--data", str(data), *flags]
    with log.open("a", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        url = _wait_until_ready(process, log)
        token = _stored_token(Path(settings["LORAHUB_CONFIG"]), url)
        client = settings | {"LORAHUB_ENDPOINT": url, "LORAHUB_TOKEN": token}
        yield RunningServer(url, token, data, log, client, process)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[str], log: Path) -> str:
    """Return the address that the server prints.  A server that never does is killed, which ends its output."""
    assert process.stdout is not None
    alarm = threading.Timer(START_TIMEOUT_SECONDS, process.kill)
    alarm.start()
    try:
        for line in process.stdout:
            if line.startswith(READY):
                threading.Thread(target=_drain, args=(process,), daemon=True).start()
                return line.removeprefix(READY).strip()
    finally:
        alarm.cancel()
    raise AssertionError(f"lorahub serve ended with {process.wait()} before it listened:\n{log.read_text('utf-8')}")


def _drain(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for _line in process.stdout:
        pass


def _stored_token(config: Path, url: str) -> str:
    """Return the admin token that the first start left in this machine's config ('' on a later start)."""
    if not config.exists():
        return ""
    tokens: dict[str, str] = json.loads(config.read_text("utf-8")).get("tokens", {})
    return tokens.get(url) or next(iter(tokens.values()), "")


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
