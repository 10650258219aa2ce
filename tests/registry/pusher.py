"""A process that pushes on command, so that a test can kill it, starve it, or break its disk at a chosen syscall.

    python -m tests.registry.pusher        one JSON request per line on stdin, two JSON lines back on stdout:
                                           {"pid": …} of the child that will push, then {"status": …, "result": …}

The children are forked from one process that has imported everything, so that hundreds of runs take seconds.
A request with `stop` makes its child stop itself (SIGSTOP) once it is connected, just before it pushes.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hub.adapter.files import build_manifest
from hub.adapter.publication import Publication
from hub.errors import HubError
from hub.refs import AdapterName
from hub.registry.rights.access import Actor
from hub.registry.service import Registry
from hub.settings import ServerSettings


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            run(request, writing)
        os.close(writing)
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        text = os.read(reading, 65_536).decode()
        os.close(reading)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"status": code, "result": json.loads(text) if text else None}), flush=True)


def run(request: dict[str, Any], writing: int) -> None:
    result: dict[str, Any]
    try:
        result = attempt(request)
    except HubError as error:
        result = {"error": error.code, "status": error.status, "message": error.message}
    except BaseException as error:  # noqa: BLE001  (the test shows it)
        result = {"error": "not ours", "message": repr(error)}
    os.writev(writing, [json.dumps(result).encode()])  # a call that no fault of these tests is aimed at
    os._exit(0)


def attempt(request: dict[str, Any]) -> dict[str, Any]:
    registry = Registry.open(ServerSettings(Path(request["data"]), request["database"], request["store"]))
    actor = registry.tokens.authenticate(request["token"])
    folder, name = Path(request["folder"]), AdapterName.parse(request["name"])
    manifest = build_manifest(folder)
    # In memory from here on: the faults are for the registry's files, not for these.
    bodies = {file.sha256: (folder / file.path).read_bytes() for file in manifest.files}
    if "files" in request:
        resource.setrlimit(resource.RLIMIT_NOFILE, (request["files"], request["files"]))
    if request.get("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    send(registry, actor, name, bodies)
    published = registry.versions.publish(actor, name, manifest, Publication(alias=request.get("alias")))
    return {"number": published.version.number, "created": published.created}


def send(registry: Registry, actor: Actor, name: AdapterName, bodies: dict[str, bytes]) -> None:
    wanted = [(sha256, len(body)) for sha256, body in sorted(bodies.items())]
    for sha256, size in registry.blobs.missing(actor, name, wanted):
        upload = registry.uploads.start(actor, name, sha256, size)
        registry.uploads.append(actor, upload.id, upload.offset, io.BytesIO(bodies[sha256][upload.offset :]))


@dataclass
class Outcome:
    """status: 0, or minus the signal that killed the child.  result: what it says of itself, if it could."""

    status: int
    result: dict[str, Any] | None


class Pusher:
    """The test's end of the pipe."""

    def __enter__(self) -> Pusher:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.registry.pusher"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def push(self, request: dict[str, Any]) -> Outcome:
        self._ask(request)
        self._answer()
        return self._outcome()

    def push_with_fault(self, request: dict[str, Any], fault: str) -> Outcome:
        """Push under strace, e.g. with the fault `fsync:signal=KILL:when=3`, counted from the push on."""
        self._ask({**request, "stop": True})
        pid = int(self._answer()["pid"])
        wait_until_stopped(pid)
        name = fault.partition(":")[0]
        tracer = subprocess.Popen(
            ["strace", "-f", "-p", str(pid), "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={fault}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        os.kill(pid, signal.SIGCONT)
        outcome = self._outcome()
        tracer.wait(30)
        tracer.stderr.close()
        return outcome

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def _outcome(self) -> Outcome:
        answer = self._answer()
        return Outcome(int(answer["status"]), answer["result"])


def wait_until_stopped(pid: int) -> None:
    for _ in range(3_000):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.01)
    raise AssertionError("the child did not come as far as its push")


if __name__ == "__main__":
    main()
