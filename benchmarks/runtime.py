"""Measure the runtime beside PEFT and bitsandbytes in one run, and write the tables of docs/benchmarks.md.

    python -m benchmarks.runtime [--models 135m,1.1b] [--only decoding,…] [--repetitions 7] [--threads 2] [--no-write]

Read ratios, not times.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from hub.runtime.quiet import silence_advice

silence_advice()

import torch  # noqa: E402

from benchmarks import kernel, machine, training  # noqa: E402
from benchmarks import runtime_cases as cases  # noqa: E402
from benchmarks.document import put  # noqa: E402
from benchmarks.runtime_setup import MODELS, Setup, prepared  # noqa: E402
from benchmarks.turns import Row, table  # noqa: E402

PACKAGES = ("torch", "transformers", "bitsandbytes", "peft")
Measure = Callable[[Setup, int], list[Row]]
MEASURES: dict[str, Measure] = {
    "memory": lambda setup, _: cases.memory(setup),
    "kernel": lambda _, repetitions: kernel.products(repetitions),
    "decoding": cases.decoding,
    "training": training.steps,
    "loading": lambda setup, _: cases.loading(setup),
    "dora": cases.dora,
    "opening": cases.opening,
    "combining": cases.combining,
}
OF_EACH_MODEL = ("memory", "decoding")
"""The others are measured once, on the small model; memory first, before anything else has left its pages."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the runtime beside PEFT and bitsandbytes.")
    parser.add_argument("--models", default=",".join(MODELS), help="135m, 1.1b, with a comma between")
    parser.add_argument("--only", help="names of measures, with commas between", default="")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("hub.runtime").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    said = machine.describe(options.threads, *PACKAGES)
    missed = []
    for model in options.models.split(","):
        rows = measure(model, [name for name in options.only.split(",") if name], options.repetitions)
        missed += [f"{row.measure} ({model})" for row in rows if not row.ok]
        text = f"{said}\n\n{table(rows)}"
        print(text, flush=True)
        if not options.no_write:
            put(f"runtime-{model}", text)
    print("all as wanted" if not missed else f"missed: {'; '.join(missed)}")
    return 0


def measure(model: str, only: list[str], repetitions: int) -> list[Row]:
    chosen = [name for name in MEASURES if model == "135m" or name in OF_EACH_MODEL]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lorahub-bench-") as folder, prepared(Path(folder), model) as setup:
        for name in chosen:
            if only and name not in only:
                continue
            print(f"measuring {name} of {model} …", flush=True)
            for row in MEASURES[name](setup, repetitions):
                rows.append(row)
                print(f"  {row.measure}: {row.result}", flush=True)
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
