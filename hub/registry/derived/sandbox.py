"""Run recipes in processes with limits on resources, killed at their deadline.

Sandbox (here) -> child.py, which imports what recipes need -> a fork for each job, which bounds itself
    {function, store, files, bounds}  ---->
              {value}, {refused: why}, {killed} or {again}  <----
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from hub.manifest import FileEntry
from hub.registry.derived.recipe import WAITING, Derived, Recipe

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
_BLOCK_BYTES = 64 * 1024
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "SYSTEMROOT", "SSL_CERT_FILE")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Sandbox:
    """Runs one job at a time.  Its process starts with the first job; `close` ends it."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def run(self, recipe: Recipe, versions: Sequence[Mapping[str, FileEntry]]) -> Derived:
        """Return the recipe's outcome: a value, a failure's reason, or WAITING if a retry may succeed."""
        request = {
            "function": recipe.function,
            "imports": recipe.imports,
            "store": self._store,
            "versions": [[[entry.path, entry.size, entry.sha256] for entry in files.values()] for files in versions],
            "cpu_seconds": recipe.cpu_seconds,
            "memory_bytes": recipe.memory_bytes,
            "deadline_seconds": recipe.deadline_seconds,
            "max_bytes": MAX_ANSWER_BYTES,
        }
        answer = self._ask(json.dumps(request).encode() + b"\n", recipe.deadline_seconds + 5)
        found = self._read(recipe, answer) if answer is not None else _beyond(recipe)
        if not answer:
            self.close()  # in an unknown state: start a new process for the next job
        return found

    def close(self) -> None:
        """End the process and whatever runs in it."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _ask(self, line: bytes, seconds: float) -> bytes | None:
        """Send a job and return the answer; None at the deadline, b"" if the process ended."""
        process = self._process or self._start()
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except OSError:
            return b""
        return _read_line(process.stdout, time.monotonic() + seconds)

    def _start(self) -> subprocess.Popen[bytes]:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hub.registry.derived.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,
            bufsize=0,
        )
        return self._process

    def _read(self, recipe: Recipe, answer: bytes) -> Derived:
        said: dict[str, Any] = json.loads(answer) if answer else {}
        if "value" in said:
            return Derived("made", said["value"])
        if "refused" in said:
            return Derived("failed", reason=str(said["refused"]))
        if "killed" in said:
            return _beyond(recipe)
        log.error("deriving %s failed: %s", recipe.key, self._last_errors())
        return WAITING

    def _last_errors(self) -> str:
        if self._errors is None:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4_000))
        return self._errors.read().decode("utf-8", "replace").strip()


def _read_line(pipe: IO[bytes], deadline: float) -> bytes | None:
    """Return a line, without its end; None at the deadline, b"" if the pipe ends before."""
    parts: list[bytes] = []
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and waiting.select(left):
            part = os.read(pipe.fileno(), _BLOCK_BYTES)
            parts.append(part)
            if not part:
                return b""
            if part.endswith(b"\n"):
                return b"".join(parts)
    return None


def _environment() -> dict[str, str]:
    """Return the child's environment: the store's credentials, but none of the server's own secrets."""
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("AWS_")}
    return kept | dict.fromkeys(_ONE_THREAD, "1")


def _beyond(recipe: Recipe) -> Derived:
    memory = recipe.memory_bytes // 10**6
    bounds = f"{recipe.cpu_seconds} s of a processor's time and {memory:,} MB of memory"
    return Derived("failed", reason=f"It takes more than is spent on it here: {bounds}.")
