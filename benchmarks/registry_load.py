"""Many clients at once: requests per second of `resolve` per worker, and forty publishers against one at a time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import hub.client.sync
from hub.refs import AdapterName
from hub.settings import ClientSettings
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server

CLIENTS = 16
SECONDS = 10
PUBLISHERS = 40


def main(folder: Path) -> None:
    for workers in (1, 2):
        # Raise the rate limit: all clients share one address here, and the limit is not what we measure.
        with running_server(
            folder / f"load-{workers}", "--workers", str(workers), LORAHUB_READS_PER_MINUTE="6000000"
        ) as server:
            print(f"# {workers} workers", flush=True)
            resolve_load(folder, server)
            if workers == 2:
                publishers(folder, server)


def client_settings(server: RunningServer, cache: Path) -> ClientSettings:
    return ClientSettings(endpoint=server.url, token=server.token, cache=cache)


def resolve_load(folder: Path, server: RunningServer) -> None:
    """Let wrk resolve one version from sixteen connections."""
    adapter = write_adapter(folder / "small")
    hub.client.sync.push(adapter, AdapterName.parse("task/qa"), client_settings(server, folder / "cache"))
    if shutil.which("wrk") is None:
        print("wrk is not installed: no load is measured")
        return
    url = f"{server.url}/api/v1/adapters/task/qa/versions/v1"
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "--latency", url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    tail = re.search(r"99%\s+(\S+)", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    print(
        f"resolve, {CLIENTS} clients: {rate[1] if rate else '?'} requests/s, p99 {tail[1] if tail else '?'}, "
        f"{bad[1] if bad else 0} refused",
        flush=True,
    )


def publishers(folder: Path, server: RunningServer) -> None:
    """Push forty small adapters one after the other, and forty others all at once."""
    one = [write_adapter(folder / f"one-{number}", seed=number) for number in range(PUBLISHERS)]
    many = [write_adapter(folder / f"many-{number}", seed=100 + number) for number in range(PUBLISHERS)]
    settings = client_settings(server, Path(tempfile.mkdtemp(dir=folder)))
    began = time.perf_counter()
    for place in one:
        hub.client.sync.push(place, AdapterName.parse("task/alone"), settings)
    alone = time.perf_counter() - began
    failures: list[str] = []

    def push(place: Path) -> None:
        try:
            hub.client.sync.push(place, AdapterName.parse("task/crowd"), settings)
        except Exception as error:  # noqa: BLE001  (counted and shown)
            failures.append(repr(error))

    threads = [threading.Thread(target=push, args=(place,)) for place in many]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    crowd = time.perf_counter() - began
    print(f"{PUBLISHERS} publishers: one at a time {PUBLISHERS / alone:.1f}/s, at once {PUBLISHERS / crowd:.1f}/s")
    print(f"failures: {json.dumps(failures)}", flush=True)
