"""What a running server spent: memory and processor time of its processes, as the kernel counts them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Counts from the moment of `of` on."""

    pid: int
    before_bytes: dict[int, int]
    before_seconds: float

    @classmethod
    def of(cls, pid: int) -> Cost:
        """Start to count for a process and its children.  Skips the test where the kernel doesn't let us."""
        before = {}
        for process in family(pid):
            try:
                (PROC / str(process) / "clear_refs").write_text("5")  # the peak is the present from now on
            except OSError:
                pytest.skip("the peak of a process's memory can't be set back here")
            before[process] = peak_bytes(process)
        return cls(pid, before, cpu_seconds(pid))

    def grown_bytes(self) -> int:
        """Return by how much the process grew that grew the most, at its peak."""
        return max(peak_bytes(process) - self.before_bytes.get(process, 0) for process in family(self.pid))

    def spent_seconds(self) -> float:
        return cpu_seconds(self.pid) - self.before_seconds


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents = {}
    for entry in PROC.glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [pid]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", (PROC / str(pid) / "status").read_text())
    return 1024 * int(found[1]) if found else 0


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, its threads, and its children, also of those that ended."""
    total = 0
    for process in family(pid):
        fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICKS
