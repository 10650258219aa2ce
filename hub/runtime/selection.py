"""Which adapter a forward pass uses: one shared answer, and one for each block of code that overrides it.

A choice maps the index of an adapted module to the update that the module computes.  Choosing replaces one reference:
no module is visited, so a switch costs the same for 2 modules or 2,000, and for 1 adapter or 100.

A block's choice lives in a context variable: threads and asyncio tasks each have their own.  A generator has none of
its own, it runs in its caller's context.  So every block remembers the function that entered it, and the block of the
innermost function that is being called is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from hub.errors import Conflict
from hub.runtime.frames import depth_of, frame_that_enters, frames_of_this_call, is_generator

if TYPE_CHECKING:
    from hub.runtime.updates import Update


@dataclass(frozen=True, slots=True)
class Choice:
    """What to compute at each adapted module.

    updates: module index -> update; a module that isn't there computes the bare base.
    refs: the adapters that take part, for pinning them; empty for the bare base.
    label: what `Model.active` says: a ref, {ref: weight}, or None.
    rows: of a mixed batch, the label of every row.
    """

    updates: Mapping[int, Update] = field(default_factory=dict)
    refs: tuple[str, ...] = ()
    label: str | Mapping[str, float] | None = None
    rows: tuple[str | Mapping[str, float] | None, ...] = ()


BARE = Choice()


@dataclass(frozen=True, eq=False, slots=True)
class _Block:
    """A choice for a block of code.

    owner: the frame that entered it.  around: the blocks that it lies in.
    is_plain: no generator has entered it, or a block before it.  is_call: it lasts for one call of the model.
    ended: has an entry once it was left, maybe in another context than the one where it is looked for.
    """

    choice: Choice
    owner: FrameType | None
    around: frozenset[_Block]
    is_plain: bool
    is_call: bool
    ended: list[bool] = field(default_factory=list)

    def waits(self, running: set[FrameType]) -> bool:
        """Whether its owner is a generator that none of the running functions has called."""
        return self.owner is not None and self.owner not in running and is_generator(self.owner)


class Selection:
    """The choice that is in force.  Reading it is what every adapted module does in every forward pass."""

    def __init__(self, shared: Choice = BARE) -> None:
        self.shared: Choice = shared
        self._blocks = _new_variable()

    @property
    def current(self) -> Choice:
        """The choice of the block that this code runs in, or the shared one.

        Raises Conflict where a generator that waits holds a block, and this code runs outside that generator.
        """
        blocks = self._blocks.get()
        return _in_force(blocks, self.shared) if blocks else self.shared

    def update_at(self, index: int) -> Update | None:
        """Return what module `index` computes now; None for the bare base."""
        blocks = self._blocks.get()
        if not blocks:
            return self.shared.updates.get(index)
        last = blocks[-1]
        return (last.choice if last.is_call else _in_force(blocks, self.shared)).updates.get(index)

    @contextmanager
    def override(self, choice: Choice, *, is_call: bool = False) -> Iterator[None]:
        """Use `choice` in this block of this thread or task, whatever others do or `shared` becomes.

        is_call: the block is one call of the model, which nothing interrupts.
        """
        outer = tuple(block for block in self._blocks.get() if not block.ended)
        block = _enter(choice, outer, frame_that_enters(), is_call=is_call)
        self._blocks.set((*outer, block))
        try:
            yield
        finally:
            # Others may have come meanwhile, and a generator may be closed in another context than it began in.
            if not block.is_plain:
                block.ended.append(True)
            self._blocks.set(tuple(other for other in self._blocks.get() if other is not block))

    def __getstate__(self) -> dict[str, Choice]:
        # A copied model starts with the same answer for all threads, and then goes its own way.
        return {"shared": self.shared}

    def __setstate__(self, state: dict[str, Choice]) -> None:
        self.shared, self._blocks = state["shared"], _new_variable()


def _new_variable() -> ContextVar[tuple[_Block, ...]]:
    return ContextVar("hub.runtime.selection", default=())


def _enter(choice: Choice, outer: tuple[_Block, ...], owner: FrameType | None, *, is_call: bool) -> _Block:
    if all(block.is_plain for block in outer):
        return _Block(choice, owner, frozenset(outer), owner is None or not is_generator(owner), is_call)
    running = frames_of_this_call()
    return _Block(choice, owner, frozenset(b for b in outer if not b.waits(running)), False, is_call)


def _in_force(blocks: tuple[_Block, ...], shared: Choice) -> Choice:
    last = blocks[-1]
    return last.choice if last.is_plain else _innermost(blocks, shared)


def _innermost(blocks: Sequence[_Block], shared: Choice) -> Choice:
    """Return the choice of the innermost block that this code runs in, where generators hold some of them."""
    running = frames_of_this_call()
    blocks = [block for block in blocks if not block.ended]
    found: _Block | None = None
    for block in blocks:
        if not block.waits(running) and _lies_inside(block, found, running):
            found = block
    for block in blocks:
        if block.waits(running) and (found is None or found in block.around):
            raise _unclear(block.choice)
    return shared if found is None else found.choice


def _lies_inside(block: _Block, other: _Block | None, running: set[FrameType]) -> bool:
    """Whether `block`, which came later than `other`, lies inside it in the code that runs now."""
    if other is None or other.owner not in running:
        return True
    if block.owner is None or block.owner not in running:
        return other in block.around
    return other.owner is not None and depth_of(block.owner) >= depth_of(other.owner)


def _unclear(choice: Choice) -> Conflict:
    return Conflict(
        f"A generator that waits holds model.using({choice.label!r}), and this call comes from outside it, so which "
        "choice is meant can't be told. Say it: model(…, adapters=…), or `with model.using(…)` around this call."
    )
