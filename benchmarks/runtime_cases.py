"""The measures: each runs PEFT and this runtime by turns, so that both meet the same machine."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.loaded_memory import resident_bytes
from benchmarks.runtime_setup import ADAPTERS, Setup, open_base, open_ours, open_peft
from benchmarks.turns import Row, Times, by_turns, medians, speed
from hub.runtime import Model

STEPS = 31
"""Repetitions of what takes a fraction of a second, where a median of 7 would be the scheduler's."""


# --- loading and switching


def loading(setup: Setup) -> list[Row]:
    """Load 16 adapters one after the other into both."""
    peft, ours = open_peft(setup.base, setup.folders[:1]), open_ours(setup.base, setup.refs[0])
    times: Times = {"PEFT load_adapter": [], "lorahub add": [], "lorahub add, a folder": []}
    for number in range(1, ADAPTERS):
        folder, ref = setup.folders[number], setup.refs[number]
        gc.collect()
        _timed(times["PEFT load_adapter"], peft.load_adapter, folder, f"a{number}")
        _timed(times["lorahub add"], ours.add, ref)
    folders = open_ours(setup.base)
    for folder in setup.folders[1:8]:
        _timed(times["lorahub add, a folder"], folders.add, folder)
    early, late = (median(times["lorahub add"][part]) for part in (slice(0, 8), slice(8, 16)))
    rows = [
        speed("load an adapter from the local cache", times, "PEFT load_adapter", "lorahub add", 20),
        speed("load an adapter from a folder of one's own", times, "PEFT load_adapter", "lorahub add, a folder"),
        Row(
            "load with 9 to 16 loaded, against 1 to 8",
            f"{late / early:.2f}x the time",
            {"1 to 8": early, "9 to 16": late},
            "at most 1.5x",
            late <= 1.5 * early,
        ),
    ]
    return [*rows, *switching(setup, peft, ours)]


def switching(setup: Setup, peft: Any, ours: Model) -> list[Row]:
    """Switch between adapters, with all of them and with two of them loaded."""
    turn = iter(range(10**9))
    jobs = {
        "PEFT set_adapter": lambda: peft.set_adapter(f"a{next(turn) % ADAPTERS}", inference_mode=True),
        "lorahub use": lambda: ours.use(setup.refs[next(turn) % ADAPTERS]),
    }
    many = by_turns(jobs, 40)
    two = open_ours(setup.base, *setup.refs[:2])
    alone = by_turns(
        {
            "2 loaded": lambda: two.use(setup.refs[next(turn) % 2]),
            f"{ADAPTERS} loaded": lambda: ours.use(setup.refs[next(turn) % ADAPTERS]),
        },
        200,
    )
    flat = medians(alone)
    microseconds = flat[f"{ADAPTERS} loaded"] * 1e6
    growth = flat[f"{ADAPTERS} loaded"] / flat["2 loaded"]
    return [
        speed("switch", many, "PEFT set_adapter", "lorahub use", 1000),
        Row("switch, absolute", f"{microseconds:.1f} µs", flat, "at most 50 µs", microseconds <= 50),
        Row("switch with 17 loaded, against 2", f"{growth:.2f}x the time", flat, "at most 2x", growth <= 2),
    ]


def _timed(into: list[float], job: Callable[..., Any], *args: Any) -> None:
    begin = time.perf_counter()
    job(*args)
    into.append(time.perf_counter() - begin)


# --- running


class Decoding:
    """One model in the middle of a generation: `step` computes one more token for every row, then takes it back."""

    def __init__(self, model: Any, rows: int, **options: Any) -> None:
        self.model, self.options = model, options
        generator = torch.Generator().manual_seed(rows)
        tokens = torch.randint(5, 4000, (rows, 64), generator=generator)
        with torch.no_grad():
            self.past = model(input_ids=tokens, use_cache=True, **options).past_key_values
        self.token = tokens[:, :1]

    @torch.no_grad()
    def step(self) -> None:
        self.model(input_ids=self.token, past_key_values=self.past, use_cache=True, **self.options)
        self.past.crop(-1)


def decoding(setup: Setup, repetitions: int) -> list[Row]:
    bare, peft = open_base(setup.base), open_peft(setup.base, setup.folders[:4])
    ours = open_ours(setup.base, *setup.refs[:4])
    steps = max(STEPS, repetitions) if setup.model == "135m" else repetitions  # a step of the large one is no fraction
    rows = _one_row(bare, peft, ours, steps)
    rows += _mixed(setup, bare, peft, ours, steps)
    return rows + _prefill(setup, bare, peft, ours, repetitions)


def _one_row(bare: Any, peft: Any, ours: Model, repetitions: int) -> list[Row]:
    with ours.using(None):
        ours_bare = Decoding(ours, 1)
    jobs = {"the bare base": Decoding(bare, 1), "PEFT": Decoding(peft, 1), "lorahub": Decoding(ours, 1)}
    steps: dict[str, Callable[[], Any]] = {name: job.step for name, job in jobs.items()}

    def step_bare() -> None:
        with ours.using(None):
            ours_bare.step()

    times = by_turns(steps | {"lorahub without an adapter": step_bare}, repetitions, warm_up=3)
    measure = "decode, 1 row, one adapter"
    return [
        speed(measure, times, "the bare base", "lorahub", 1.0),
        speed(measure, times, "PEFT", "lorahub", 2),
        speed(measure, times, "lorahub without an adapter", "lorahub"),
    ]


def _mixed(setup: Setup, bare: Any, peft: Any, ours: Model, repetitions: int) -> list[Row]:
    names = [f"a{row % 4}" for row in range(8)]
    one = Decoding(ours, 8)
    theirs = Decoding(peft, 8, adapter_names=names)
    with ours.using([setup.refs[row % 4] for row in range(8)]):
        mixed = Decoding(ours, 8)
        plan = ours._selection.current  # as in a generation: made once, used for every token
    selection = ours._selection

    def step_mixed() -> None:
        with selection.override(plan, is_call=True):
            mixed.step()

    jobs = {
        "the bare base": Decoding(bare, 8).step,
        "PEFT adapter_names": theirs.step,
        "lorahub mixed": step_mixed,
        "8 rows with one adapter": one.step,
    }
    times = by_turns(jobs, repetitions, warm_up=3)
    measure = "decode, 8 rows, 4 adapters mixed"
    return [
        speed(measure, times, "PEFT adapter_names", "lorahub mixed", 2),
        speed(measure, times, "8 rows with one adapter", "lorahub mixed", 0.85),
        speed(measure, times, "the bare base", "lorahub mixed"),
    ]


def _prefill(setup: Setup, bare: Any, peft: Any, ours: Model, repetitions: int) -> list[Row]:
    tokens = torch.randint(5, 4000, (1, 512), generator=torch.Generator().manual_seed(1))
    narrow = open_ours(setup.base, setup.refs[0], compute="bfloat16")

    @torch.no_grad()
    def run(model: Any) -> None:
        model(input_ids=tokens, use_cache=True, logits_to_keep=1)

    jobs = {
        "the bare base": lambda: run(bare),
        "PEFT": lambda: run(peft),
        "lorahub, float32": lambda: run(ours),
        "lorahub, bfloat16": lambda: run(narrow),
    }
    times = by_turns(jobs, repetitions)
    return [
        speed("prefill of 512 tokens, float32", times, "the bare base", "lorahub, float32", 0.6),
        speed("prefill of 512 tokens, bfloat16", times, "the bare base", "lorahub, bfloat16", 0.95),
        speed("prefill of 512 tokens, float32", times, "PEFT", "lorahub, float32"),
    ]


def dora(setup: Setup, repetitions: int) -> list[Row]:
    assert setup.dora is not None
    peft, ours = open_peft(setup.base, [setup.dora]), open_ours(setup.base, setup.dora)
    times = by_turns({"PEFT": Decoding(peft, 1).step, "lorahub": Decoding(ours, 1).step}, repetitions)
    return [speed("DoRA decode, 1 row", times, "PEFT", "lorahub", 5)]


# --- combining, opening


def combining(setup: Setup, repetitions: int) -> list[Row]:
    peft, ours = open_peft(setup.base, setup.folders[:2]), open_ours(setup.base, *setup.refs[:2])
    pair = {setup.refs[0]: 0.5, setup.refs[1]: 0.5}

    def theirs() -> None:
        peft.add_weighted_adapter(["a0", "a1"], [0.5, 0.5], "sum", combination_type="svd", svd_rank=16)
        peft.delete_adapter("sum")

    jobs = {
        "PEFT svd": theirs,
        "lorahub exact": lambda: ours.use(pair),
        "lorahub rank 16": lambda: ours.use(pair, rank=16),
    }
    times = by_turns(jobs, repetitions, warm_up=0)
    return [
        speed("weighted sum of two adapters, exact", times, "PEFT svd", "lorahub exact", 100),
        speed("weighted sum of two adapters, rank 16", times, "PEFT svd", "lorahub rank 16"),
    ]


def opening(setup: Setup, repetitions: int) -> list[Row]:
    open_ours(setup.base)  # leaves the copy
    jobs = {"transformers, quantizing": lambda: open_base(setup.base), "lorahub, again": lambda: open_ours(setup.base)}
    times = by_turns(jobs, repetitions)
    return [speed("second load of a 4-bit base", times, "transformers, quantizing", "lorahub, again", 5)]


def memory(setup: Setup) -> list[Row]:
    """Measure what a loaded base takes, in a process of its own, and what adapters take that come and go."""
    open_ours(setup.base)  # leaves the 4-bit copy: quantizing takes memory that is given back later
    command = [sys.executable, "-m", "benchmarks.loaded_memory", str(setup.base)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    megabytes = {name: value / 2**20 for name, value in found.items()}
    share = found["ran"] / found["tensors"]
    base = Row(
        "memory of a loaded 4-bit base that has run",
        f"{share:.3f}x its tensors",
        megabytes,
        "at most 1.05x",
        share <= 1.05,
        "MB",
    )
    return [base, *_memory_of_adapters(setup)]


def _memory_of_adapters(setup: Setup) -> list[Row]:
    if len(setup.refs) < ADAPTERS:
        return []
    ours = open_ours(setup.base)
    tensors = sum(path.stat().st_size for path in (f / "adapter_model.safetensors" for f in setup.folders[:8]))
    ours.add(setup.refs[16])  # one-time costs of the first one
    gc.collect()
    before = resident_bytes()
    for ref in setup.refs[:8]:
        ours.add(ref)
    added = resident_bytes() - before
    for ref in setup.refs[:8]:
        ours.remove(ref)
    gc.collect()
    kept = resident_bytes() - before
    megabytes = {"tensors": tensors / 2**20, "resident": added / 2**20, "after removal": kept / 2**20}
    share, left = added / tensors, kept / tensors
    return [
        Row("memory of 8 attached adapters", f"{share:.3f}x tensors", megabytes, "at most 1.05x", share <= 1.05, "MB"),
        Row("memory after removing them", f"{left:.3f}x tensors", megabytes, "at most 0.05x", left <= 0.05, "MB"),
    ]
