"""How a long operation speaks to whoever waits for it."""

from __future__ import annotations

import logging
import warnings

_log = logging.getLogger(__name__)


class HubWarning(UserWarning):
    """Something that a user should know and that stops nothing: a yanked version, a file left out of a push."""


class Observer:
    """Hears how far an operation is.  This one logs notes, and turns warnings into Python's.

    Methods may be called from several threads at once.  One stage is open at a time.
    """

    def begin(self, stage: str, total_bytes: int) -> None:
        """A stage of known size starts, e.g. `sending`."""

    def advance(self, count: int) -> None:
        """`count` more bytes of the stage are done; negative when work has to be done again."""

    def end(self) -> None:
        """The stage is over."""

    def note(self, text: str) -> None:
        """Something worth a line that needs no action."""
        _log.info("%s", text)

    def warn(self, text: str) -> None:
        """Something that the user should act on or know of."""
        warnings.warn(text, HubWarning, stacklevel=4)
