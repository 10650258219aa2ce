"""Recipes that behave well or badly.  They run in a process of their own, which imports this and little else."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from hub.errors import HubError, Unavailable
from hub.formats.readable import Readable

Files = Mapping[str, Readable]
MB = 10**6


def sizes(files: Files) -> dict[str, int]:
    return {path: len(files[path].read(0, 10**6)) for path in sorted(files)}


def both(before: Files, after: Files) -> list[int]:
    return [len(before), len(after)]


def process(_files: Files) -> int:
    return os.getpid()


def refuse(_files: Files) -> None:
    raise HubError("This adapter can't be looked at.")


def spin(_files: Files) -> None:
    while True:
        pass


def sleep(_files: Files) -> None:
    time.sleep(600)


def hoard(_files: Files) -> int:
    return len([bytearray(50 * MB) for _ in range(1_000)])


def crash(_files: Files) -> None:
    os.abort()


def stumble(_files: Files) -> None:
    raise Unavailable("The store does not answer.")


def fault(_files: Files) -> None:
    raise ZeroDivisionError


def endless(_files: Files) -> str:
    return "x" * (5 * 1024 * 1024)


def not_a_number(_files: Files) -> float:
    return float("nan")


def secrets(_files: Files) -> list[str]:
    return sorted(name for name in os.environ if "LORAHUB" in name or "SECRET" in name)
