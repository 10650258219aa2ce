"""Slots of fixed shape for compiled code: switching, adding, removing and mixing change numbers, never the graph.

    a     (slots + 1, rank, in)      slot 0 is zeros: the bare base
    b     (slots + 1, rank, out)     times the scaling
    bias  (slots + 1, out)           of lora_bias
    rows  (MAX_ROWS,)                the slot of every row of the batch, one tensor for all modules

Eager code needs none of this: there an adapter is as large as its tensors, and a choice is a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from torch import nn

from hub.errors import AdapterNotFound, Incompatible, InvalidRequest, Unsupported
from hub.runtime import dense
from hub.runtime.choosing import batch_size
from hub.runtime.loaded import Loaded
from hub.runtime.selection import Choice, Selection
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
    """The fixed slots of all compiled modules.  Forward passes take turns: the rows are one tensor for all of them.

    lock: whose turn it is, held for as long as a pass runs.
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
        self._selected: list[int] = []
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

    def runs(self, forward: Callable[..., Any], selection: Selection) -> Callable[..., Any]:
        """Return a compiled `forward` that computes what is chosen where it is called.

        A row of the batch that is several there (beams) lies next to its copies.
        """

        def run(*args: Any, **kwargs: Any) -> Any:
            with self.selected(selection.current, batch_size(args, kwargs)):
                return forward(*args, **kwargs)

        return run

    def check_choice(self, choice: Choice) -> None:
        """Raise Unsupported for a weighted sum, AdapterNotFound for what has left its slot."""
        self._numbers_of(choice)

    def select(self, choice: Choice, batch: int | None = None) -> None:
        """Let every row of the next batch use `choice`.  Raises Unsupported for a weighted sum."""
        numbers = self._numbers_of(choice)
        if len(numbers) > 1:
            numbers = _repeated(numbers, batch or len(numbers))
        if numbers == self._selected:
            return
        if len(numbers) == 1:
            self._rows.fill_(numbers[0])
        else:
            self._rows[: len(numbers)] = torch.tensor(numbers, device=self._rows.device)
        self._selected = numbers

    @contextmanager
    def selected(self, choice: Choice, batch: int | None = None) -> Iterator[None]:
        """Let compiled code use `choice` while the block runs, and other threads wait."""
        with self.lock:
            with self._slots_lock:
                self.select(choice, batch)
            yield

    def _numbers_of(self, choice: Choice) -> list[int]:
        return [self._number(label) for label in (choice.rows or (choice.label,))]

    def _number(self, label: object) -> int:
        if isinstance(label, Mapping):
            raise Unsupported(
                "A compiled model has fixed slots, and a weighted sum has no slot. Merge it, or save it as an adapter."
            )
        number = self._numbers.get(label)  # type: ignore[call-overload]
        if number is None:
            raise AdapterNotFound(f"{label} has left its slot. Load the model with more: hub.load(…, slots=…).")
        return number


def _repeated(numbers: list[int], batch: int) -> list[int]:
    """Return the slot of every row of a batch, in which each row that was named lies next to its copies (beams)."""
    if batch % len(numbers):
        raise InvalidRequest(f"adapters names {len(numbers)} rows, and the batch has {batch}. Name one for every row.")
    return [number for number in numbers for _ in range(batch // len(numbers))]


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
