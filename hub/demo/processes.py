"""The demo's processes: one `lorahub serve` on a free loopback port, and the commands that a user would type."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from hub.errors import HubError, Unavailable

READY = "lorahub is ready: "
_START_TIMEOUT_SECONDS = 120
_STOP_TIMEOUT_SECONDS = 20
_COLUMNS = 108


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands in the demo's folder, with settings of the demo's own."""

    folder: Path
    env: Mapping[str, str]

    def lorahub(self, *args: str) -> str:
        """Run `lorahub *args` in a process of its own; return all that it printed.  Raises HubError if it fails."""
        command = [sys.executable, "-m", "hub.cli", *args]
        code, printed = _run_as_on_terminal(command, self.folder, self.env)
        printed = printed if sys.stdout.isatty() else _without_styles(printed)
        if code:
            raise HubError(f"`{typed(*args)}` exited {code}: {printed.strip()}")
        return printed


def _without_styles(text: str) -> str:
    """Drop the sequences that make text bold on a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def typed(*args: str) -> str:
    """Return a command as a user types it."""
    return shlex.join(["lorahub", *args])


def demo_environment(folder: Path) -> dict[str, str]:
    """Return the environment without this user's own lorahub settings: the demo touches neither config nor cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LORAHUB_")}
    return kept | {
        "LORAHUB_CONFIG": str(folder / "config.json"),
        "LORAHUB_CACHE": str(folder / "cache"),
        "COLUMNS": str(_COLUMNS),
    }


@contextmanager
def serving(folder: Path, env: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `lorahub serve` with a fresh SQLite file and blob folder; yield (its address, its process).

    It stops, with its running transfers finished, when the block ends.  Raises Unavailable if it doesn't start.
    """
    command = [sys.executable, "-m", "hub.cli", *serve_arguments()]
    with (folder / "server.log").open("w", encoding="utf-8") as log:
        # A group of its own: Ctrl-C on the terminal is the demo's to handle, and it ends the server in order.
        process = subprocess.Popen(
            command, cwd=folder, env=dict(env), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        yield _wait_until_ready(process, folder / "server.log"), process
    finally:
        _stop(process)


def serve_arguments() -> list[str]:
    return ["serve", "--port", "0", "--data", "./registry"]


def _wait_until_ready(process: subprocess.Popen[str], log: Path) -> str:
    output: IO[str] = cast("IO[str]", process.stdout)
    alarm = threading.Timer(_START_TIMEOUT_SECONDS, process.kill)
    alarm.start()
    try:
        for line in output:
            if line.startswith(READY):
                threading.Thread(target=output.read, daemon=True).start()  # else a full pipe would stop it
                return line.removeprefix(READY).strip()
    finally:
        alarm.cancel()
    last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
    raise Unavailable(f"lorahub serve ended with {process.wait()} before it listened: {last[0]}")


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run_as_on_terminal(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Run a command whose stdout is a terminal, so that it prints what people see; without progress bars.

    Returns its exit code, and its notes followed by its output.
    """
    if sys.platform == "win32":  # no pseudo-terminals: the output is what a pipe gets
        done = subprocess.run(command, cwd=folder, env=dict(env), capture_output=True, text=True, check=False)
        return done.returncode, done.stderr + done.stdout
    import pty

    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**env, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
        os.close(theirs)
        notes: list[bytes] = []
        reader = threading.Thread(target=lambda: notes.append(process.stderr.read() if process.stderr else b""))
        reader.start()
        output = b"".join(_until_closed(screen.fileno()))
        reader.join()
        code = process.wait()
    return code, (b"".join(notes) + output).decode("utf-8", "replace").replace("\r\n", "\n")


def _until_closed(screen: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(screen, 65_536)
        except OSError:  # Linux says EIO when the last writer is gone; others say end of file
            return
        if not part:
            return
        yield part
