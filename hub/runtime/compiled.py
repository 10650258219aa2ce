"""Slots of fixed shape for compiled code: switching, adding, removing and mixing change numbers, never the graph.

    a     (slots + 1, rank, in)      slot 0 is zeros: the bare base
    b     (slots + 1, rank, out)     times the scaling
    bias  (slots + 1, out)           of lora_bias
    rows  (MAX_ROWS,)                the slot of every row of the batch, one tensor for all modules

Eager code needs none of this: there an adapter is as large as its tensors, and a choice is a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from torch import nn

from hub.errors import Incompatible, Unsupported
from hub.runtime import dense
from hub.runtime.loaded import Loaded
from hub.runtime.selection import BARE, Choice
from hub.runtime.updates import LowRank

MAX_ROWS = 1024


class ModuleSlots:
    """The buffers of one linear layer, and what compiled code computes with them."""

    def __init__(self, module: nn.Module, count: int, rank: int, rows: torch.Tensor, dtype: torch.dtype) -> None:
        wide, narrow = dense.features(module)
        self.rows = rows
        self.a = torch.zeros(count + 1, rank, wide, dtype=dtype, device=rows.device)
        self.b = torch.zeros(count + 1, rank, narrow, dtype=dtype, device=rows.device)
        self.bias = torch.zeros(count + 1, narrow, dtype=dtype, device=rows.device)

    def run(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, each row of the batch with the adapter of its slot.  x: (batch, …, in)."""
        out = layer.bare(x)
        slots = self.rows[: x.shape[0]]
        flat = x.reshape(x.shape[0], -1, x.shape[-1]).to(self.a.dtype)
        hidden = torch.bmm(flat, self.a[slots].transpose(1, 2))  # (batch, tokens, rank)
        update = torch.baddbmm(self.bias[slots].unsqueeze(1), hidden, self.b[slots])
        return (out + update.view(out.shape)).to(out.dtype)

    def write(self, slot: int, update: Any) -> None:
        """Put a LowRank into a slot; None empties it."""
        self.a[slot].zero_()
        self.b[slot].zero_()
        self.bias[slot].zero_()
        if update is not None:
            a, b = update.factors()
            self.a[slot, : update.rank] = a
            self.b[slot, : update.rank] = b.t()
            if update.bias is not None:
                self.bias[slot] = update.bias


class SlotBank:
    """The fixed slots of all compiled modules.  Calls take turns: the rows are one tensor for all of them.

    lock: whose turn it is, held for as long as a call runs.
    slots_lock: that of `Slots`, under which slots and rows change, so that no adapter leaves its slot before the rows
        name it.  It is taken by who holds `lock`, never the other way round.
    """

    def __init__(
        self,
        modules: Mapping[int, nn.Module],
        names: Mapping[int, str],
        count: int,
        rank: int,
        dtype: torch.dtype,
        slots_lock: RLock,
    ) -> None:
        weight: Any = next(iter(modules.values())).weight
        device: torch.device = weight.device
        self.rank, self._names = rank, names
        self._rows = torch.zeros(MAX_ROWS, dtype=torch.long, device=device)
        self._modules = {
            index: ModuleSlots(module, count, rank, self._rows, dtype) for index, module in modules.items()
        }
        for index, module in modules.items():
            module.__dict__["hub_slots"] = self._modules[index]
        self._free = list(range(count, 0, -1))
        self._numbers: dict[str | None, int] = {None: 0}
        self._selected: Choice | None = None
        self._offered = BARE
        self._running = 0
        self.lock, self._slots_lock = RLock(), slots_lock

    def check(self, adapter: Loaded) -> None:
        """Raise Unsupported or Incompatible unless the adapter fits the fixed slots; nothing has changed then."""
        check_compilable([adapter], self._names, self.rank)
        for index in adapter.updates:
            if index not in self._modules:
                raise Incompatible(
                    f"{self._names[index]} was adapted by none of the adapters that were loaded when the model was "
                    f"compiled. Load the model with {adapter.ref}, then model.compile()."
                )

    def put(self, adapter: Loaded) -> None:
        slot = self._free.pop()
        with torch.no_grad():
            for index, update in adapter.updates.items():
                self._modules[index].write(slot, update)
        self._numbers[adapter.ref] = slot

    def drop(self, ref: str) -> None:
        slot = self._numbers.pop(ref)
        with torch.no_grad():
            for module in self._modules.values():
                module.write(slot, None)
        self._free.append(slot)

    def select(self, choice: Choice) -> None:
        """Let every row of the next batch use `choice`.  Raises Unsupported for a weighted sum."""
        if self._selected is choice:
            return
        numbers = self._numbers_of(choice)
        if len(numbers) == 1:
            self._rows.fill_(numbers[0])
        else:
            self._rows[: len(numbers)] = torch.tensor(numbers, device=self._rows.device)
        self._selected = choice

    def offer(self, choice: Choice) -> None:
        """Let calls that choose nothing themselves use `choice`; one that is running goes on with its own.

        Raises Unsupported for a weighted sum; nothing has changed then.
        """
        with self._slots_lock:
            self._numbers_of(choice)
            self._offered = choice
            if not self._running:
                self.select(choice)

    @contextmanager
    def selected(self, choice: Choice) -> Iterator[None]:
        """Let compiled code use `choice` while the block runs, and other threads wait.

        After the outermost block it uses what was offered last: a `use` while it ran is for the calls that follow.
        """
        with self.lock:
            around = self._begin(choice)
            try:
                yield
            finally:
                self._end(around)

    def _begin(self, choice: Choice) -> Choice | None:
        """Select, and return the choice of the block around this one, if there is one."""
        with self._slots_lock:
            around = self._selected if self._running else None
            self.select(choice)
            self._running += 1
            return around

    def _end(self, around: Choice | None) -> None:
        with self._slots_lock:
            self._running -= 1
            self.select(self._offered if around is None else around)

    def _numbers_of(self, choice: Choice) -> list[int]:
        return [self._number(label) for label in (choice.rows or (choice.label,))]

    def _number(self, label: object) -> int:
        if isinstance(label, Mapping):
            raise Unsupported(
                "A compiled model has fixed slots, and a weighted sum has no slot. Merge it, or save it as an adapter."
            )
        return self._numbers[label]  # type: ignore[index]


def check_compilable(adapters: Sequence[Loaded], names: Mapping[int, str], rank: int) -> None:
    """Raise unless all updates are low-rank ones of linear layers, of at most `rank`."""
    for adapter in adapters:
        for index, update in adapter.updates.items():
            if type(update) is not LowRank:
                raise Unsupported(
                    f"{names[index]}: a compiled model runs plain low-rank updates of linear layers; {adapter.ref} has "
                    "another kind there. Run it on a model that isn't compiled."
                )
            if update.rank > rank:
                raise Incompatible(
                    f"{names[index]}: {adapter.ref} has rank {update.rank}, and compiled slots hold {rank}. Load the "
                    f"model again and call model.compile(max_rank={update.rank})."
                )


def highest_rank(adapters: Sequence[Loaded]) -> int:
    """Return the largest rank of any update."""
    return max(
        (update.rank for adapter in adapters for update in adapter.updates.values() if isinstance(update, LowRank)),
        default=0,
    )
