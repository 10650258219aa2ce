"""Which adapter a forward pass uses: one shared answer, and one per thread that overrides it.

A choice maps the index of an adapted module to the update that the module computes.  Choosing replaces one reference:
no module is visited, so a switch costs the same for 2 modules or 2,000, and for 1 adapter or 100.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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


class Selection:
    """The choice that is in force.  Reading it is what every adapted module does in every forward pass."""

    def __init__(self) -> None:
        self.shared: Choice = BARE
        self._local = threading.local()

    @property
    def current(self) -> Choice:
        """This thread's choice, or the shared one."""
        choice: Choice | None = getattr(self._local, "choice", None)
        return self.shared if choice is None else choice

    def update_at(self, index: int) -> Update | None:
        """Return what module `index` computes now; None for the bare base."""
        choice: Choice | None = getattr(self._local, "choice", None)
        return (self.shared if choice is None else choice).updates.get(index)

    @contextmanager
    def override(self, choice: Choice) -> Iterator[None]:
        """Use `choice` in this thread, whatever other threads do or `shared` becomes."""
        before: Choice | None = getattr(self._local, "choice", None)
        self._local.choice = choice
        try:
            yield
        finally:
            self._local.choice = before

    def __getstate__(self) -> dict[str, Choice]:
        # A copied model starts with the same answer for all threads, and then goes its own way.
        return {"shared": self.shared}

    def __setstate__(self, state: dict[str, Choice]) -> None:
        self.shared, self._local = state["shared"], threading.local()
