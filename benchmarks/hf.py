"""The Hugging Face wire beside the native client: `python -m benchmarks.hf [--megabytes 256] [--rounds 5]`.

Prints, and with --json writes, what was measured on this machine:

    requests   of a PEFT-style load of what is cached (PeftModel.from_pretrained by tag)
    download   one adapter into an empty cache, by `hf_hub_download` and by `lorahub pull`, in turns
    upload     the same adapter, by `upload_folder` (Xet) and by `lorahub push`, in turns

Each download and each upload is a process of its own, timed inside, without the time to import (what a client imports
at its first use is imported before, on both sides).  Rates are those of the medians; the seconds of every round are
printed, too.  The server computes nothing at a first read that it keeps for the next, so no round is special.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.hf.conftest import Wire, prepare
from tests.hf.counting_proxy import counting_proxy
from tests.hf.large_adapter import large_adapter
from tests.support.adapters import write_adapter
from tests.support.server import running_server

HF_DOWNLOAD = """
import sys, time
import hf_xet, httpcore2
from huggingface_hub import hf_hub_download
name, folder = sys.argv[1:]
started = time.perf_counter()
for file in ("adapter_config.json", "adapter_model.safetensors"):
    hf_hub_download(name, file, revision="v1", cache_dir=folder)
print(time.perf_counter() - started)
"""
HF_DOWNLOAD_UNSYNCED = 'import os\nos.environ["HF_HUB_DISABLE_SHARED_BLOBS"] = "1"' + HF_DOWNLOAD
"""Without its store of files that repositories share: 2.4 syncs a file on the way there, once all of it has come."""

NATIVE_DOWNLOAD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from hub.refs import AdapterRef
from hub.settings import ClientSettings
from hub.client.sync import pull
name, folder = sys.argv[1:]
started = time.perf_counter()
pull(AdapterRef.parse(name + "@v1"), replace(ClientSettings.from_env(), cache=Path(folder)))
print(time.perf_counter() - started)
"""
HF_UPLOAD = """
import sys, time
from huggingface_hub import HfApi
name, folder = sys.argv[1:]
import hf_xet
started = time.perf_counter()
HfApi().create_repo(name)
HfApi().upload_folder(repo_id=name, folder_path=folder)
print(time.perf_counter() - started)
"""
NATIVE_UPLOAD = """
import sys, time
import hub
name, folder = sys.argv[1:]
started = time.perf_counter()
hub.push(folder, name)
print(time.perf_counter() - started)
"""
CACHED_LOAD = """
import sys, urllib.request, os
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM
def seen():
    return urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/seen").read().decode().splitlines()
def model():
    sizes = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4, num_hidden_layers=2, vocab_size=64)
    return LlamaForCausalLM(LlamaConfig(**sizes))
PeftModel.from_pretrained(model(), sys.argv[1], revision="v1")
before = len(seen())
PeftModel.from_pretrained(model(), sys.argv[1], revision="v1")
print(len(seen()) - before)
"""


@dataclass(frozen=True)
class Report:
    """rates are MB/s; ratio is hf's divided by the native client's."""

    megabytes: float
    cached_load_requests: int
    hf_download: float
    native_download: float
    download_ratio: float
    unsynced_ratio: float
    hf_upload: float
    native_upload: float
    upload_ratio: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), chosen.megabytes, chosen.rounds)
    print(render(report))
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(report), indent=2), "utf-8")


def measure(tmp: Path, megabytes: int, rounds: int) -> Report:
    """Run everything against one server."""
    with running_server(tmp / "server") as server:
        wire = prepare(server)
        wire.namespace("bench")
        small = write_adapter(tmp / "small")
        server.cli("push", str(small), "bench/small")
        big = large_adapter(tmp / "big", megabytes * 1_000_000)
        server.cli("push", str(big), "bench/big")
        size = sum(path.stat().st_size for path in big.iterdir()) / 1e6
        hf, unsynced, native = alternate(wire, tmp, rounds, HF_DOWNLOAD, HF_DOWNLOAD_UNSYNCED, NATIVE_DOWNLOAD)
        hf_up, native_up = alternate_uploads(wire, tmp, rounds, megabytes)
        requests = count_requests(wire, tmp)
    return Report(
        size,
        requests,
        hf_download=size / hf,
        native_download=size / native,
        download_ratio=native / hf,
        unsynced_ratio=native / unsynced,
        hf_upload=size / hf_up,
        native_upload=size / native_up,
        upload_ratio=native_up / hf_up,
    )


def alternate(wire: Wire, tmp: Path, rounds: int, *scripts: str) -> list[float]:
    """Return the median time of each script, in seconds; they take turns, forwards and backwards."""
    times: dict[str, list[float]] = {script: [] for script in scripts}
    for turn in range(rounds):
        for script in scripts if turn % 2 else reversed(scripts):
            with tempfile.TemporaryDirectory(dir=tmp) as cache:
                times[script].append(run(wire, tmp, script, "bench/big", cache))
    print_spread(times.values())
    return [statistics.median(taken) for taken in times.values()]


def alternate_uploads(wire: Wire, tmp: Path, rounds: int, megabytes: int) -> tuple[float, float]:
    """Return the median time of each way to upload; every upload has bytes of its own."""
    times: dict[str, list[float]] = {HF_UPLOAD: [], NATIVE_UPLOAD: []}
    for turn in range(rounds):
        for at, script in enumerate(times):
            with tempfile.TemporaryDirectory(dir=tmp) as folder:
                big = large_adapter(Path(folder) / "adapter", megabytes * 1_000_000, seed=1 + 2 * turn + at)
                times[script].append(run(wire, Path(folder), script, f"bench/up-{turn}-{at}", str(big)))
    print_spread(times.values())
    return statistics.median(times[HF_UPLOAD]), statistics.median(times[NATIVE_UPLOAD])


def print_spread(all_times: Iterable[list[float]]) -> None:
    for times in all_times:
        shown = ", ".join(f"{seconds:.2f}" for seconds in times)
        print(f"  seconds: {shown}  (median {statistics.median(times):.2f})", file=sys.stderr)


def count_requests(wire: Wire, tmp: Path) -> int:
    with counting_proxy(wire.url) as counter:
        return int(run(wire, tmp, CACHED_LOAD, "bench/small", endpoint=counter.url))


def run(wire: Wire, home: Path, script: str, *args: str, endpoint: str | None = None) -> float:
    """Run a script in a client process; return the last number that it prints."""
    env = wire.server.env | wire.client_env(home) | {"LORAHUB_ENDPOINT": wire.url, "LORAHUB_TOKEN": wire.token}
    env |= {"HF_ENDPOINT": endpoint or wire.url}
    done = subprocess.run([sys.executable, "-c", script, *args], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.strip().splitlines()[-1])


def render(report: Report) -> str:
    return "\n".join(
        [
            f"adapter                     {report.megabytes:8.0f} MB",
            f"requests of a cached load   {report.cached_load_requests:8d}",
            f"download, hf_hub_download   {report.hf_download:8.0f} MB/s",
            f"download, lorahub pull      {report.native_download:8.0f} MB/s",
            f"                  hf / native {report.download_ratio:8.2f}",
            f"  without its own sync, hf / native {report.unsynced_ratio:4.2f}",
            f"upload, hf upload (Xet)     {report.hf_upload:8.0f} MB/s",
            f"upload, lorahub push        {report.native_upload:8.0f} MB/s",
            f"                  hf / native {report.upload_ratio:8.2f}",
        ]
    )


if __name__ == "__main__":
    main()
