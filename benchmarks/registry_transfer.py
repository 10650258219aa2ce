"""Push and pull over loopback, beside the limit (hash, copy, fsync) and MLflow's artifact server with the same file.

Ours verifies the sha256 at both ends; MLflow verifies nothing.  Client and server are processes of their own.  All
take turns on one file after another, each on a disk with nothing left to write, so that whatever else the machine does
meets all of them alike; a ratio is one of medians of the same run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.adapters import lora_config
from tests.support.server import RunningServer, running_server

MIB = 1024 * 1024
RANK, HIDDEN = 64, 4096  # one module's pair: 2 MiB in float32
MLFLOW = Path(__file__).resolve().parent.parent / ".venvs" / "mlflow" / "bin"
PATH = "adapter_model.safetensors"

CLIENT = """
import json, sys, time
from pathlib import Path
import hub.client.sync
from hub.refs import AdapterName, AdapterRef
from hub.settings import ClientSettings
verb, what, name = sys.argv[1:]
def peak():  # not ru_maxrss, which starts with what the parent had
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
settings = ClientSettings.from_env()
idle = peak()
began = time.perf_counter()
if verb == "push":
    hub.client.sync.push(Path(what), AdapterName.parse(name), settings)
else:
    hub.client.sync.pull(AdapterRef.parse(name), settings)
seconds = time.perf_counter() - began
print(json.dumps([seconds, peak() - idle]))
"""

MLFLOW_CLIENT = """
import json, os, sys, time
import mlflow
url, source, target = sys.argv[1:]
mlflow.set_tracking_uri(url)
with mlflow.start_run() as run:
    began = time.perf_counter()
    mlflow.log_artifact(source)
    up = time.perf_counter() - began
os.sync()
began = time.perf_counter()
mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=source.rpartition("/")[2], dst_path=target)
print(json.dumps([up, time.perf_counter() - began]))
"""


@dataclass(frozen=True)
class Transfer:
    """Seconds up and down; bytes of memory above idle at the client and at the server."""

    up: float
    down: float
    client_memory: float = 0.0
    server_memory: float = 0.0


def write_large_adapter(folder: Path, size: int, seed: int) -> Path:
    """Write an adapter whose weights have about `size` bytes, of which each seed changes a little."""
    import numpy
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    numbers = numpy.random.default_rng(seed)
    modules = max(1, size // (2 * RANK * HIDDEN * 4))
    a = numbers.standard_normal((RANK, HIDDEN), dtype=numpy.float32)
    tensors = {}
    for layer in range(modules):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{prefix}.lora_A.weight"] = numpy.roll(a, layer)
        tensors[f"{prefix}.lora_B.weight"] = numpy.roll(a, -layer).reshape(HIDDEN, RANK)
    save_file(tensors, str(folder / PATH))
    (folder / "adapter_config.json").write_text(json.dumps(lora_config(RANK, RANK, ["q_proj"], "bench/base")))
    return folder


def limit(source: Path, target: Path) -> float:
    """Hash, copy and fsync one file: what no verified transfer to a disk can beat."""
    began = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while piece := reading.read(MIB):
            digest.update(piece)
            writing.write(piece)
        writing.flush()
        os.fsync(writing.fileno())
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def client(server: RunningServer, *args: str, **env: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *args], env=server.env | env, capture_output=True, text=True, check=True
    )
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def server_memory(server: RunningServer) -> float:
    """Return the most memory that any of the server's processes ever had, in bytes."""
    children = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout.split()
    return max(peak(pid) for pid in (str(server.process.pid), *children))


def peak(pid: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    return 0.0


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """MLflow's tracking server with its artifact proxy, as its documentation starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "2",
        "--artifacts-destination",
        str(folder / "art"),
    ]
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    log = (folder / "mlflow.log").open("wb")
    process = subprocess.Popen(
        [str(MLFLOW / "mlflow"), "server", *flags, *store], stdout=log, stderr=log, start_new_session=True
    )
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        time.sleep(5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)
        log.close()


def wait_for(attempt: Callable[[], object], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while True:
        try:
            attempt()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)
        else:
            return


def main(folder: Path, sizes: list[int], repeats: int = 9) -> None:
    heads = f"{'up s':>8} {'down s':>8} {'of limit':>16} {'vs MLflow':>16} {'memory client, server':>24}"
    print(f"{'size':>8} {'':22} {heads}")
    with ExitStack() as servers:
        server = servers.enter_context(running_server(folder / "server", "--workers", "2"))
        mlflow = servers.enter_context(mlflow_server(folder)) if (MLFLOW / "mlflow").exists() else None
        bench = Bench(folder, server, server_memory(server), mlflow)
        for size in sizes:
            bench.measure(size, repeats if size < 10**9 else 3)
    if mlflow is None:
        print("MLflow is not there: python -m venv .venvs/mlflow && .venvs/mlflow/bin/pip install mlflow==3.17.2")


@dataclass(frozen=True)
class Bench:
    """The servers of a run.  idle: the most memory that a process of ours had before the first transfer, in bytes."""

    folder: Path
    server: RunningServer
    idle: float
    mlflow: str | None

    def measure(self, size: int, repeats: int) -> None:
        sides = {"limit": self.limit, "ours": self.ours} | ({"mlflow": self.theirs} if self.mlflow else {})
        taken: dict[str, list[Transfer]] = {side: [] for side in sides}
        for turn in range(repeats):
            adapter = write_large_adapter(self.folder / "adapter", size, turn)
            for side in list(sides)[:: 1 if turn % 2 else -1]:
                os.sync()
                taken[side].append(sides[side](adapter))
            shutil.rmtree(adapter)
        show(f"{size / 1e6:,.0f} MB", {side: middle(turns) for side, turns in taken.items()})

    def limit(self, adapter: Path) -> Transfer:
        seconds = limit(adapter / PATH, self.folder / "copy")
        return Transfer(seconds, seconds)

    def ours(self, adapter: Path) -> Transfer:
        """Push a folder, then pull it with an empty cache."""
        name, cache = f"bench/size-{(adapter / PATH).stat().st_size}", self.folder / "cache"
        up, up_memory = client(self.server, "push", str(adapter), name)
        os.sync()
        down, down_memory = client(self.server, "pull", "-", f"{name}@latest", LORAHUB_CACHE=str(cache))
        shutil.rmtree(cache)
        return Transfer(up, down, max(up_memory, down_memory), server_memory(self.server) - self.idle)

    def theirs(self, adapter: Path) -> Transfer:
        """Log the weights as an artifact of a new run, then download it."""
        place = self.folder / "down"
        command = [str(MLFLOW / "python"), "-c", MLFLOW_CLIENT, str(self.mlflow), str(adapter / PATH), str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        up, down = json.loads(done.stdout.splitlines()[-1])
        for used in (place, self.folder / "art"):
            shutil.rmtree(used)
        return Transfer(up, down)


def middle(turns: list[Transfer]) -> Transfer:
    """Return the median of the times and the most of the memory."""
    return Transfer(
        statistics.median(turn.up for turn in turns),
        statistics.median(turn.down for turn in turns),
        max(turn.client_memory for turn in turns),
        max(turn.server_memory for turn in turns),
    )


def show(label: str, taken: dict[str, Transfer]) -> None:
    floor, mine, other = taken["limit"], taken["ours"], taken.get("mlflow")
    print(f"{label:>8} {'hash + copy + fsync':22} {floor.up:8.3f} {floor.down:8.3f}")
    if other:
        print(f"{label:>8} {'mlflow 3.17.2':22} {other.up:8.3f} {other.down:8.3f}")
    share = f"{floor.up / mine.up:6.2f} {floor.down / mine.down:6.2f}"
    against = f"{other.up / mine.up:6.2f}x {other.down / mine.down:6.2f}x" if other else ""
    memory = f"{mine.client_memory / 1e6:6.0f} MB {mine.server_memory / 1e6:6.0f} MB"
    line = f"{label:>8} {'lorahub, verified':22} {mine.up:8.3f} {mine.down:8.3f} {share:>16} {against:>16} {memory:>24}"
    print(line, flush=True)
