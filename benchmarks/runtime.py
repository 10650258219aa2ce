"""Measure the runtime beside PEFT in one run, and write the table of docs/benchmarks.md.

    python -m benchmarks.runtime [--only decoding,…] [--repetitions 7] [--threads 1] [--no-write]

Read ratios, not times.  One thread by default: on a shared machine, several measure the scheduler.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch

from benchmarks import runtime_cases as cases
from benchmarks.runtime_setup import Setup, prepared

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- runtime: begin -->", "<!-- runtime: end -->"
PACKAGES = ("torch", "transformers", "bitsandbytes", "peft")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the runtime beside PEFT.")
    parser.add_argument("--only", help="names of measures, with commas between", default="")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("hub.runtime").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    rows = measure(options.only, options.repetitions)
    table = render(rows, options.repetitions, options.threads)
    print(table)
    if not options.no_write and not options.only:
        write(table)
    missed = [row.measure for row in rows if not row.ok]
    print(f"{len(rows) - len(missed)} of {len(rows)} as wanted" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 0


def measure(only: str, repetitions: int) -> list[cases.Row]:
    measures: dict[str, Callable[[Setup], list[cases.Row]]] = {
        "loading": cases.loading,
        "decoding": lambda setup: cases.decoding(setup, repetitions),
        "dora": lambda setup: cases.dora(setup, repetitions),
        "opening": lambda setup: cases.opening(setup, repetitions),
        "memory": cases.memory,
        "combining": lambda setup: cases.combining(setup, repetitions),
    }
    chosen = [name for name in measures if not only or name in only.split(",")]
    rows: list[cases.Row] = []
    with tempfile.TemporaryDirectory(prefix="lorahub-bench-") as folder, prepared(Path(folder)) as setup:
        for name in chosen:
            print(f"measuring {name} …", flush=True)
            for row in measures[name](setup):
                rows.append(row)
                print(f"  {row.measure}: {row.text}", flush=True)
    return rows


def render(rows: list[cases.Row], repetitions: int, threads: int) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}, {threads} thread{'s' * (threads > 1)}; Python "
        f"{platform.python_version()}, {versions}. SmolLM2-135M, NF4 with double quantization, r=16 on all 210 linear "
        f"layers, A and B in float32. Medians of {repetitions} or more, PEFT and lorahub by turns.",
        "",
        "| measure | result | wanted | medians |",
        "|---|---|---|---|",
    ]
    for row in rows:
        wanted = "" if row.wanted is None else f"{row.wanted:,.3g}" + (" (met)" if row.ok else " (**not met**)")
        lines.append(f"| {row.measure} | {row.text} | {wanted} | {_medians(row)} |")
    return "\n".join(lines)


def _medians(row: cases.Row) -> str:
    if row.measure.startswith("memory"):
        return ", ".join(f"{name} {value:.1f} MB" for name, value in row.times.items())
    return ", ".join(f"{name} {_time(value)}" for name, value in row.times.items())


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.1f} ms"


def _machine() -> str:
    features = torch.backends.cpu.get_cpu_capability()
    return f"{os.cpu_count()} cores of a shared {platform.machine()} machine ({features})"


def write(table: str) -> None:
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
