"""Whether a module sees a batch's rows first: proven on the model itself, or a mixed batch doesn't reach that module.

Two rows go through the bare base, then each of them is exchanged, and a module's inputs are compared.  Where the first
half of an input changes with the first row alone, and the second half with the second, rows come first.  What the probe
doesn't reach (the image tower of a model that is given text), and what turns, joins or drops rows (XLNet, windows of
Longformer, padding that is left out) isn't proven.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from hub.runtime.attach import Attachment
from hub.runtime.modes import kept_tensors
from hub.runtime.offloaded import computing_device
from hub.runtime.probe import Inputs, probe_inputs
from hub.runtime.selection import Choice, Selection
from hub.runtime.updates import Update

LENGTH = 6
_SAME = 0.05
"""What rounding may change at most of any number in a row that is the same.

Each number is measured by itself: trained models have a few that are a thousand times as large as the others, whatever
the row, and of the largest one everything else is nothing.
"""
_LEAST, _FACTOR = 1e-4, 10
"""What another row changes at least of half of its numbers, and how many times what rounding has changed."""

_Seen = dict[int, list[torch.Tensor]]


class RowOrder:
    """What is proven of the modules of one base, each probed once."""

    def __init__(self, base: Any, attachment: Attachment, selection: Selection) -> None:
        self._base, self._attachment, self._selection = base, attachment, selection
        self._dimensions: dict[int, frozenset[int]] = {}

    def prove(self, indices: Iterable[int]) -> None:
        """Probe those of the modules, which take updates already, that weren't yet."""
        fresh = [index for index in indices if index not in self._dimensions]
        if fresh:
            self._dimensions |= self._probe(fresh)

    def dimensions(self, index: int) -> frozenset[int]:
        """Return how many dimensions the inputs have in which rows came first; empty where that isn't proven."""
        return self._dimensions.get(index, frozenset())

    @kept_tensors()
    def _probe(self, indices: Sequence[int]) -> dict[int, frozenset[int]]:
        device = computing_device(self._base)
        try:
            given = probe_inputs(self._base, None, device)
            seen = None if given is None else [self._see(indices, inputs) for inputs in _variants(given, self._base)]
        except Exception:  # noqa: BLE001  # a model that can't be asked has proven nothing, and is refused with that
            seen = None
        return {index: _proven(*(watched[index] for watched in seen)) if seen else frozenset() for index in indices}

    def _see(self, indices: Sequence[int], inputs: Inputs) -> _Seen:
        seen: _Seen = defaultdict(list)
        watching = Choice({index: _Watch(seen[index]) for index in indices})
        with self._selection.override(watching, is_call=True), torch.random.fork_rng():
            torch.manual_seed(0)  # dropout, in a model that trains
            self._base(**inputs)
        return seen


class _Watch(Update):
    """Computes the bare base, and keeps what it was given."""

    __slots__ = ("seen",)

    def __init__(self, seen: list[torch.Tensor]) -> None:
        self.seen = seen

    def run(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], torch.Tensor):
            self.seen.append(args[0].detach().clone())
        return layer.bare(*args, **kwargs)

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out


def _variants(given: Inputs, base: Any) -> list[Inputs]:
    """Return two rows, the same with the first or the second one exchanged, and the same with padding."""
    short = {name: value if value.is_floating_point() else value[:, :LENGTH] for name, value in given.items()}
    pairs = [{name: value[[*rows]] for name, value in short.items()} for rows in ((0, 1), (2, 1), (0, 3))]
    padded = dict(pairs[0])
    if "input_ids" in padded and "attention_mask" in inspect.signature(base.forward).parameters:
        padded["attention_mask"] = torch.ones_like(padded["input_ids"])
        padded["attention_mask"][1, LENGTH // 2 :] = 0
    return [*pairs, padded]


def _proven(
    plain: list[torch.Tensor], first: list[torch.Tensor], second: list[torch.Tensor], padded: list[torch.Tensor]
) -> frozenset[int]:
    shapes = [[value.shape for value in seen] for seen in (plain, first, second, padded)]
    if not plain or any(other != shapes[0] for other in shapes):
        return frozenset()
    is_proven = all(
        _changes(before, one) == (True, False) and _changes(before, two) == (False, True)
        for before, one, two in zip(plain, first, second, strict=True)
    )
    return frozenset(value.ndim for value in plain) if is_proven else frozenset()


def _changes(before: torch.Tensor, after: torch.Tensor) -> tuple[bool, bool] | None:
    """Return whether the first and the second half changed; None unless one of them did and the other didn't."""
    if before.ndim == 0 or before.shape[0] % 2:
        return None
    halves = zip(before.float().reshape(2, -1), after.float().reshape(2, -1), strict=True)
    (most_first, half_first), (most_second, half_second) = (_change(one, other) for one, other in halves)
    if most_second <= _SAME and half_first >= max(_LEAST, _FACTOR * most_second):
        return True, False
    if most_first <= _SAME and half_second >= max(_LEAST, _FACTOR * most_first):
        return False, True
    return None


def _change(before: torch.Tensor, after: torch.Tensor) -> tuple[float, float]:
    """Return how much of itself the number changed that changed most, and the median one."""
    size = torch.maximum(before.abs(), after.abs())
    is_there = size > 0  # many are zero in any row, behind a ReLU
    if not is_there.any():
        return 0.0, 0.0
    change, size = (after - before).abs()[is_there], size[is_there]
    return float((change / (size + size.median())).amax()), float((change / size).median())
