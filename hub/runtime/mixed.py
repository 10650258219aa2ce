"""A batch whose rows use different adapters: the base is computed once, then each adapter adds to its own rows.

    few tokens (decoding)   all factors side by side: one product with every A, a mask, one with every B
    many tokens (prefill)   one adapter after the other, on its rows only

Side by side costs the same number of calls for 2 adapters as for 20, and reads every weight once, as it must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hub.errors import Unsupported
from hub.runtime.modes import kept_tensors
from hub.runtime.rows import RowOrder
from hub.runtime.selection import Choice
from hub.runtime.updates import LowRank, Update, add_product

FEW_TOKENS = 64
"""Up to so many tokens in a pass, a mask over all ranks costs less than picking rows."""


@kept_tensors()
def mix(rows: Sequence[Choice], names: Mapping[int, str], device: torch.device, order: RowOrder) -> Choice:
    """Return the choice in which row i of a batch uses `rows[i]`.

    names: the module of every index, to name one that can't be mixed.  order: what is proven of the modules' inputs.
    Raises Unsupported where rows can't be told apart: in the experts of a mixture, which see tokens out of order.
    """
    groups: dict[int, tuple[Choice, list[int]]] = {}
    for row, choice in enumerate(rows):
        groups.setdefault(id(choice), (choice, []))[1].append(row)
    indices = sorted({index for choice, _ in groups.values() for index in choice.updates})
    for index in indices:
        if ".experts." in names[index]:
            raise Unsupported(
                f"{names[index]} is an expert, which sees tokens without their rows: a mixed batch can't reach it. "
                "Run one adapter at a time: model.generate(…, adapters=ref)."
            )
    order.prove(indices)
    placed = [(choice, torch.tensor(found, device=device)) for choice, found in groups.values()]
    updates = {
        index: Mixed(
            names[index],
            len(rows),
            [(choice.updates.get(index), found) for choice, found in placed],
            order.dimensions(index),
        )
        for index in indices
    }
    refs = dict.fromkeys(ref for choice in rows for ref in choice.refs)
    return Choice(updates, tuple(refs), None, tuple(choice.label for choice in rows))


class Mixed(Update):
    """One module's updates for the rows of a batch.

    groups: the update (None: the bare base) and its rows.  dimensions: of inputs in which rows are proven to be first.
    """

    __slots__ = ("_can_be_together", "_together", "dimensions", "groups", "name", "rows")

    def __init__(
        self,
        name: str,
        rows: int,
        groups: Sequence[tuple[Update | None, torch.Tensor]],
        dimensions: frozenset[int],
    ) -> None:
        self.name, self.rows, self.dimensions = name, rows, dimensions
        self.groups = [(update, found) for update, found in groups if update is not None]
        self._can_be_together = all(type(update) is LowRank for update, _ in self.groups)
        self._together: Together | None = None

    def run(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not args or not isinstance(args[0], torch.Tensor):
            raise Unsupported(f"{self.name} takes no batch of rows that could be mixed. Run one adapter at a time.")
        return self.finish(layer, args[0], layer.bare(*args, **kwargs))

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if x.ndim not in self.dimensions:
            raise unproven(self.name)
        if x.shape[0] % self.rows:
            raise Unsupported(
                f"{self.name} was given {x.shape[0]} rows, and adapters were named for {self.rows}. "
                "Name one adapter (or None) for every row of the batch."
            )
        if self._can_be_together and x.numel() <= FEW_TOKENS * x.shape[-1]:
            if self._together is None:
                self._together = Together(self.groups, self.rows)
            return self._together.add_to(x, out)
        return self._one_by_one(layer, x, out)

    def _one_by_one(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        # Row i of the batch may be several rows here (beams, flattened sequences): they lie next to each other.
        per_row_x = x.reshape(self.rows, -1, *x.shape[1:])
        per_row_out = out.reshape(self.rows, -1, *out.shape[1:])
        for update, rows in self.groups:
            part_x = per_row_x.index_select(0, rows)
            part_out = per_row_out.index_select(0, rows)
            flat_x, flat_out = part_x.flatten(0, 1), part_out.flatten(0, 1)
            finished = update.finish(layer, flat_x, flat_out) if update else flat_out
            put = per_row_out.index_copy if torch.is_grad_enabled() else per_row_out.index_copy_
            per_row_out = put(0, rows, finished.view(part_out.shape))
        return per_row_out.reshape(out.shape)


def unproven(name: str) -> Unsupported:
    return Unsupported(
        f"{name} isn't known to see the rows of a batch first, so rows with different adapters can't be told apart "
        "there. Run one adapter at a time: model.generate(…, adapters=ref)."
    )


class Together:
    """The factors of all groups in one pair of matrices, with a mask that keeps each row to its own ranks.

    a_t: (in, ranks); b_t: (ranks, out); mask: (rows, 1, ranks); bias: (rows, 1, out) or None.
    """

    __slots__ = ("a_t", "b_t", "bias", "mask", "rows")

    @kept_tensors()
    def __init__(self, groups: Sequence[tuple[Any, torch.Tensor]], rows: int) -> None:
        updates: list[LowRank] = [update for update, _ in groups]
        self.rows = rows
        factors = [update.factors() for update in updates]
        # Contiguous in the order in which the products read them: a third faster for few rows.
        self.a_t = torch.cat([a.t() for a, _ in factors], dim=1)
        self.b_t = torch.cat([b.t() for _, b in factors])
        self.mask = torch.zeros(rows, 1, self.a_t.shape[1], dtype=self.a_t.dtype, device=self.a_t.device)
        start = 0
        for update, found in groups:
            self.mask[found, :, start : start + update.rank] = 1
            start += update.rank
        self.bias = self._biases(groups)

    def _biases(self, groups: Sequence[tuple[Any, torch.Tensor]]) -> torch.Tensor | None:
        if all(update.bias is None for update, _ in groups):
            return None
        biases = torch.zeros(self.rows, 1, self.b_t.shape[1], dtype=self.b_t.dtype, device=self.b_t.device)
        for update, found in groups:
            if update.bias is not None:
                biases[found] = update.bias
        return biases

    def add_to(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        hidden = torch.mm(flat if flat.dtype == self.a_t.dtype else flat.to(self.a_t.dtype), self.a_t)
        hidden.view(self.rows, -1, hidden.shape[1]).mul_(self.mask)
        added = add_product(out, hidden, self.b_t)
        if self.bias is not None:
            added = (added.view(self.rows, -1, added.shape[-1]) + self.bias).view(added.shape).to(out.dtype)
        return added
