"""The measures: each runs PEFT and this runtime by turns, so that both meet the same machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from benchmarks.runtime_setup import ADAPTERS, Setup, open_base, open_ours, open_peft
from hub.runtime import Model

STEPS = 31
"""Repetitions of what takes a fraction of a second, where a median of 7 would be the scheduler's."""

Times = dict[str, list[float]]
"""What was run -> seconds of every repetition."""


@dataclass(frozen=True)
class Row:
    """One line of the table.  wanted: the least ratio; text: how it is shown."""

    measure: str
    times: Mapping[str, float]
    ratio: float
    wanted: float | None
    text: str

    @property
    def ok(self) -> bool:
        return self.wanted is None or self.ratio >= self.wanted


def by_turns(jobs: Mapping[str, Callable[[], Any]], repetitions: int, warm_up: int = 1) -> Times:
    """Run every job in turn, `repetitions` times, after warming up."""
    times: Times = {name: [] for name in jobs}
    for turn in range(-warm_up, repetitions):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            if turn >= 0:
                times[name].append(time.perf_counter() - begin)
    return times


def medians(times: Times) -> dict[str, float]:
    return {name: median(values) for name, values in times.items()}


def ratio(measure: str, times: Times, slow: str, fast: str, wanted: float | None) -> Row:
    """Return the row that says how many times faster `fast` is than `slow`."""
    found = medians(times)
    value = found[slow] / found[fast]
    return Row(measure, found, value, wanted, f"{value:,.3g}x {slow}")


def share(measure: str, times: Times, whole: str, part: str, wanted: float) -> Row:
    """Return the row that says what share of `whole`'s speed `part` has."""
    found = medians(times)
    value = found[whole] / found[part]
    return Row(measure, found, value, wanted, f"{value:.2f} of {whole}")


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
        ratio("load an adapter from the local cache", times, "PEFT load_adapter", "lorahub add", 20),
        ratio("load an adapter from a folder of one's own", times, "PEFT load_adapter", "lorahub add, a folder", None),
        Row(
            "load, 1 to 8 against 9 to 16 loaded",
            {"1 to 8": early, "9 to 16": late},
            early / late,
            0.67,
            f"{late / early:.2f}x the time",
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
        ratio("switch", many, "PEFT set_adapter", "lorahub use", 1000),
        Row("switch, absolute", flat, 50 / microseconds, 1, f"{microseconds:.1f} µs"),
        Row("switch, 2 against 17 loaded", flat, 1 / growth, 0.5, f"{growth:.2f}x the time"),
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
    bare, peft, ours = open_base(setup.base), open_peft(setup.base, setup.folders[:4]), open_ours(setup.base)
    for ref in setup.refs[:4]:
        ours.add(ref)
    ours.use(setup.refs[0])
    rows = _one_row(bare, peft, ours, repetitions)
    rows += _mixed(setup, bare, peft, ours, repetitions)
    return rows + _prefill(bare, peft, ours, repetitions)


def _one_row(bare: Any, peft: Any, ours: Model, repetitions: int) -> list[Row]:
    with ours.using(None):
        ours_bare = Decoding(ours, 1)
    jobs = {"the bare base": Decoding(bare, 1), "PEFT": Decoding(peft, 1), "lorahub": Decoding(ours, 1)}
    steps: dict[str, Callable[[], Any]] = {name: job.step for name, job in jobs.items()}

    def step_bare() -> None:
        with ours.using(None):
            ours_bare.step()

    times = by_turns(steps | {"lorahub without an adapter": step_bare}, max(STEPS, repetitions), warm_up=3)
    measure = "decode, 1 row, one adapter"
    return [
        ratio(measure, times, "PEFT", "lorahub", 1.2),
        share(measure, times, "the bare base", "lorahub", 0.82),
        share(f"{measure}, against our own base", times, "lorahub without an adapter", "lorahub", 0.82),
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
        with selection.override(plan):
            mixed.step()

    times = by_turns(
        {
            "the bare base": Decoding(bare, 8).step,
            "PEFT adapter_names": theirs.step,
            "lorahub mixed": step_mixed,
            "8 rows with one adapter": one.step,
        },
        max(STEPS, repetitions),
        warm_up=3,
    )
    measure = "decode, 8 rows, 4 adapters mixed"
    return [
        ratio(measure, times, "PEFT adapter_names", "lorahub mixed", 1.5),
        share(measure, times, "8 rows with one adapter", "lorahub mixed", 0.85),
    ]


def _prefill(bare: Any, peft: Any, ours: Model, repetitions: int) -> list[Row]:
    tokens = torch.randint(5, 4000, (1, 512), generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def run(model: Any) -> None:
        model(input_ids=tokens, use_cache=True, logits_to_keep=1)

    jobs = {"the bare base": lambda: run(bare), "PEFT": lambda: run(peft), "lorahub": lambda: run(ours)}
    times = by_turns(jobs, repetitions)
    return [
        share("prefill of 512 tokens, one adapter", times, "the bare base", "lorahub", 0.90),
        ratio("prefill of 512 tokens, one adapter", times, "PEFT", "lorahub", None),
    ]


def dora(setup: Setup, repetitions: int) -> list[Row]:
    peft, ours = open_peft(setup.base, [setup.dora]), open_ours(setup.base, setup.dora)
    times = by_turns({"PEFT": Decoding(peft, 1).step, "lorahub": Decoding(ours, 1).step}, repetitions)
    return [ratio("DoRA decode, 1 row", times, "PEFT", "lorahub", 5)]


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
        ratio("weighted sum of two adapters, exact", times, "PEFT svd", "lorahub exact", 100),
        ratio("weighted sum of two adapters, rank 16", times, "PEFT svd", "lorahub rank 16", None),
    ]


def opening(setup: Setup, repetitions: int) -> list[Row]:
    open_ours(setup.base)  # leaves the copy
    jobs = {"transformers, quantizing": lambda: open_base(setup.base), "lorahub, again": lambda: open_ours(setup.base)}
    times = by_turns(jobs, repetitions)
    return [ratio("second load of a 4-bit base", times, "transformers, quantizing", "lorahub, again", 5)]


def memory(setup: Setup) -> list[Row]:
    """Measure the process's memory while adapters come and go."""
    ours = open_ours(setup.base)
    tensors = sum(path.stat().st_size for path in (f / "adapter_model.safetensors" for f in setup.folders[:8]))
    ours.add(setup.refs[16])  # whatever the first one costs once
    gc.collect()
    before = _resident_bytes()
    for ref in setup.refs[:8]:
        ours.add(ref)
    added = _resident_bytes() - before
    for ref in setup.refs[:8]:
        ours.remove(ref)
    gc.collect()
    kept = _resident_bytes() - before
    megabytes = {"tensors": tensors / 2**20, "resident": added / 2**20, "after removal": kept / 2**20}
    return [
        Row("memory of 8 attached adapters", megabytes, tensors / added, 1 / 1.05, f"{added / tensors:.3f}x tensors"),
        Row("memory after removing them", megabytes, 1 - kept / added, 0.95, f"{kept / tensors:.3f}x tensors"),
    ]


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
