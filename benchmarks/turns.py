"""Jobs by turns, so that all of them meet the same machine, and the rows of a table that their medians make."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

Times = dict[str, list[float]]
"""What was run -> seconds of every repetition."""


@dataclass(frozen=True)
class Row:
    """One line of a table.  result and wanted are in the same units; unit: that of `values`."""

    measure: str
    result: str
    values: Mapping[str, float]
    wanted: str = ""
    ok: bool = True
    unit: str = "s"

    @property
    def line(self) -> str:
        verdict = f"{self.wanted} ({'met' if self.ok else '**not met**'})" if self.wanted else ""
        shown = ", ".join(f"{name} {_amount(value, self.unit)}" for name, value in self.values.items())
        return f"| {self.measure} | {self.result} | {verdict} | {shown} |"


HEAD = "| measure | result | wanted | medians |\n|---|---|---|---|"


def table(rows: list[Row]) -> str:
    return "\n".join([HEAD, *(row.line for row in rows)])


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


def speed(measure: str, times: Times, slow: str, fast: str, wanted: float | None = None) -> Row:
    """Return the row that says how many times the speed of `slow` the speed of `fast` is; wanted: at least."""
    found = medians(times)
    value = found[slow] / found[fast]
    least = "" if wanted is None else f"{wanted:,.3g}x"
    return Row(measure, f"{value:,.3g}x {slow}", found, least, wanted is None or value >= wanted)


def _amount(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:,.1f} {unit}"
    return f"{value * 1e6:.1f} µs" if value < 1e-3 else f"{value * 1e3:,.1f} ms"
