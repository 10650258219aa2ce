"""One of several processes that push at once: prints `ready`, reads its requests, pushes each in its own thread."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from hub.adapter_files import build_manifest
from hub.errors import HubError
from hub.refs import AdapterName
from hub.registry.service import Registry
from hub.settings import ServerSettings
from tests.registry.pusher import send


def main() -> None:
    print("ready", flush=True)
    requests: list[dict[str, Any]] = json.loads(sys.stdin.readline())
    first = requests[0]
    registry = Registry.open(ServerSettings(Path(first["data"]), first["database"], first["store"]))
    start, results = threading.Barrier(len(requests)), []

    def push(request: dict[str, Any]) -> None:
        actor = registry.authenticate(request["token"])
        folder, name = Path(request["folder"]), AdapterName.parse(request["name"])
        manifest = build_manifest(folder)
        bodies = {file.sha256: (folder / file.path).read_bytes() for file in manifest.files}
        start.wait()
        try:
            send(registry, actor, name, bodies)
            done = registry.publish(actor, name, manifest)
            results.append({"number": done.version.number, "created": done.created})
        except HubError as error:
            results.append({"error": error.code, "message": error.message})
        except Exception as error:  # noqa: BLE001  (the test shows it)
            results.append({"error": "not ours", "message": repr(error)})

    threads = [threading.Thread(target=push, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
