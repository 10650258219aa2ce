"""Which instruction set computes: the best that this machine has, or the one that `LORAHUB_KERNEL` names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hub.errors import InvalidRequest, Unsupported

native: Any
try:
    from hub.runtime.kernel import _native as native
except ImportError:  # it was installed without a C compiler
    native = None

VARIABLE = "LORAHUB_KERNEL"
OFF = "off"
KNOWN = ("avx512", "avx2", "neon", "portable", OFF)
NOT_BUILT = "not built: there was no C compiler when lorahub was installed"

FEW_ROWS = {"avx512": 40, "avx2": 24, "neon": 24, "portable": 8}
"""Up to how many rows products from codes are quicker than a panel of dequantized weights and BLAS.  Measured."""

FEW_NARROW_ROWS = 16
"""The same in bfloat16, where the CPU multiplies that."""


@dataclass(frozen=True, slots=True)
class Way:
    """An instruction set.  place: what the compiled module calls it; few_rows: up to which it multiplies codes."""

    name: str
    place: int
    few_rows: int


@cache
def multiplies_bfloat16() -> bool:
    """Whether products in bfloat16 are quicker on this CPU than in float32.  Elsewhere torch emulates them."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_built() -> bool:
    return native is not None


def available() -> dict[str, Way]:
    """Return the ways that this build and this CPU have, the best first."""
    names = native.ways() if native else []
    return {name: Way(name, place, FEW_ROWS[name]) for place, name in enumerate(names) if name}


def find(name: str | None) -> Way | None:
    """Return the way of that name, the best one for an empty name, or None for `off`, or where nothing was built.

    Raises InvalidRequest for a name that isn't known, Unsupported for one that this machine doesn't have.
    """
    found = available()
    if not name:
        return next(iter(found.values()), None)
    if name not in KNOWN:
        raise InvalidRequest(f"{VARIABLE}={name!r} is not known: use one of {', '.join(KNOWN)}, or unset it.")
    if name != OFF and name not in found:
        why = f"this machine has {', '.join(found)} and off" if native else f"the kernel was {NOT_BUILT}"
        raise Unsupported(f"{VARIABLE}={name} can't be used: {why}. Unset it, and the best way is taken.")
    return found.get(name)


class _Chosen:
    """What all products of this process go by."""

    way: Way | None = None
    is_settled = False


def choose(name: str | None = None) -> Way | None:
    """Let all products of this process go the named way, or by default the one that the environment names."""
    _Chosen.way, _Chosen.is_settled = find(os.environ.get(VARIABLE) if name is None else name), True
    return _Chosen.way


def current() -> Way | None:
    """Return the way in force; None is bitsandbytes' own."""
    return _Chosen.way if _Chosen.is_settled else choose()


def describe() -> str:
    """Return in a few words which way runs, and why if it is none of ours."""
    way = current()
    if way is None:
        return NOT_BUILT if native is None else f"off, by {VARIABLE}"
    return way.name if native.has_team() else f"{way.name}, in one thread: torch's were not found"
