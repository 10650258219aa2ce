"""Many processes that push at once: reads shares of requests, forks a process for each, pushes each in its own thread.

Forked from one that has imported everything, so that they are many and begin in the same moment.
"""

from __future__ import annotations

import json
import sys
import threading
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from hub.adapter.files import build_manifest
from hub.adapter.publication import Publication
from hub.errors import HubError
from hub.refs import AdapterName
from hub.registry.db import database
from hub.registry.service import Registry
from hub.settings import ServerSettings
from tests.registry.pusher import send

Request = dict[str, Any]


def main() -> None:
    # SQLite's waiting is not fair between processes: on a busy machine one of many waits long.
    database.BUSY_TIMEOUT_SECONDS = 120
    shares: list[list[Request]] = json.loads(sys.stdin.readline())
    forking = get_context("fork")
    start, results = forking.Barrier(sum(len(share) for share in shares)), forking.SimpleQueue()
    crowd = [forking.Process(target=push_share, args=(share, start, results)) for share in shares]
    for process in crowd:
        process.start()
    told = [results.get() for share in shares for _ in share]
    for process in crowd:
        process.join()
    print(json.dumps(told))


def push_share(requests: list[Request], start: Barrier, results: SimpleQueue[dict[str, Any]]) -> None:
    first = requests[0]
    registry = Registry.open(ServerSettings(Path(first["data"]), first["database"], first["store"]))
    threads = [threading.Thread(target=lambda one=one: results.put(push(registry, one, start))) for one in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry.close()


def push(registry: Registry, request: Request, start: Barrier) -> dict[str, Any]:
    folder, name = Path(request["folder"]), AdapterName.parse(request["name"])
    manifest = build_manifest(folder)
    bodies = {file.sha256: (folder / file.path).read_bytes() for file in manifest.files}
    try:
        start.wait(60)
        actor = registry.tokens.authenticate(request["token"])
        send(registry, actor, name, bodies)
        done = registry.versions.publish(actor, name, manifest, Publication(alias=request.get("alias")))
    except HubError as error:
        return {"error": error.code, "message": error.message}
    except Exception as error:  # noqa: BLE001  (the test shows it)
        return {"error": "not ours", "message": repr(error)}
    return {"number": done.version.number, "created": done.created}


if __name__ == "__main__":
    main()
