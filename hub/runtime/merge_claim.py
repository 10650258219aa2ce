"""What a merge keeps others from doing: it claims the model from its first sum until `unmerge`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hub.errors import Conflict
from hub.runtime.choosing import label_of
from hub.runtime.selection import Choice, Selection
from hub.runtime.slots import Slots


class MergeClaim:
    """Nothing, a merge that runs, or one that is in force.

    It changes under the lock of the slots, as the selection does.
    """

    def __init__(self, selection: Selection, slots: Slots) -> None:
        self._selection, self._slots = selection, slots
        self._running: Choice | None = None  # what a merge that runs now began with
        self._before: Choice | None = None  # what `release` goes back to

    @contextmanager
    def running(self) -> Iterator[Choice]:
        """Let what is active stay so while the block runs: whoever would change that is refused, and nobody waits.

        Raises Conflict if something is merged, or being merged, already.
        """
        with self._slots.lock:
            self._refuse_another()
            before = self._running = self._selection.shared
        try:
            yield before
        finally:
            with self._slots.lock:
                self._running = None

    def settle(self, merged: Choice) -> None:
        """Let all threads use what the merge that runs has made."""
        with self._slots.lock:
            self._before, self._selection.shared = self._running, merged

    def release(self) -> None:
        """Go back to what was active before the merge.  Raises Conflict if nothing is merged."""
        with self._slots.lock:
            if self._before is None:
                raise Conflict("Nothing is merged.")
            self._selection.shared, self._before = self._before, None

    def in_force(self) -> Choice:
        """Return what the merge has made.  Raises Conflict if nothing is merged."""
        with self._slots.lock:
            if self._before is None:
                raise Conflict('Nothing is merged. model.merge("dequant") first.')
            return self._selection.shared

    def covers(self, ref: str | None) -> bool:
        """Whether the adapter is merged, or being merged."""
        claimed = self._before or self._running
        return claimed is not None and ref in claimed.refs

    def refuse_while_merged(self, what: str) -> None:
        """Raise Conflict for what a merge in force has no place for."""
        merged = self._before
        if merged is not None:
            raise Conflict(f"{label_of(merged.label)} is merged, so this model can't {what}. model.unmerge() first.")

    def refuse_change(self, what: str) -> None:
        """Raise Conflict, also while a merge runs: for what all threads would see."""
        running = self._running  # looked at first: a merge that ends in between is seen as merged
        self.refuse_while_merged(what)
        if running is not None:
            raise Conflict(
                f"{label_of(running.label)} is being merged, so this model can't {what}. When model.merge() has "
                "returned, model.unmerge() first."
            )

    def _refuse_another(self) -> None:
        if self._before is not None:
            raise Conflict(f"{label_of(self._before.label)} is merged already. model.unmerge() first.")
        if self._running is not None:
            raise Conflict(
                f"{label_of(self._running.label)} is being merged already. When that model.merge() has returned, "
                "model.unmerge() first."
            )
