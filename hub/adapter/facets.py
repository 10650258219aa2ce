"""What adapters are found by: one table for the search, its counts, the API, the list page and the command line.

    Facet("task", "Task", help="What the adapter does.")

adds `task=` to every search, `--task` to `lorahub search`, the values' counts to a page of results, and a list of links
beside it.  A facet whose value is a version's own needs a column in both `versions` and `adapters`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.errors import InvalidRequest

if TYPE_CHECKING:
    from hub.adapter.content import AdapterContent

MAX_TARGETS = 100
Kept = list[str] | str | float | None
"""What a column holds."""


@dataclass(frozen=True, slots=True)
class Facet:
    """One field that adapters are found by.

    title: over its values on the list page.  help: of the option on the command line; without it there is none.
    column: where a version and its adapter keep the value or the values; empty if they don't keep it themselves.
    read: what the column holds of a version, where its config and tensors say it.
    kind: of a value, where it isn't text.  all_of: whether several values must all be there, not one of them.
    counted: whether a search counts the values.
    """

    name: str
    title: str
    help: str = ""
    column: str = ""
    read: Callable[[AdapterContent], object] | None = None
    kind: type[str] | type[int] | type[float] = str
    all_of: bool = False
    counted: bool = True

    def term(self, value: str | float) -> str:
        """Return how a value is written in the index.  Raises InvalidRequest for what is no number and should be."""
        if self.kind is str:
            return str(value)
        try:
            number = self.kind(value)
        except (ValueError, TypeError, OverflowError):
            raise InvalidRequest(f"{self.name} is {str(value)[:40]!r}; it takes a number, e.g. 16.") from None
        return f"{number:g}" if isinstance(number, float) else str(number)

    def terms(self, kept: Kept) -> Iterable[str]:
        """Return the terms of what a column holds: a value, several, or none."""
        values = kept if isinstance(kept, list) else [kept]
        return [self.term(value) for value in values if value is not None and value != ""]


FACETS: tuple[Facet, ...] = (
    Facet("namespace", "Namespace", counted=False),
    Facet("task", "Task", "What the adapter does.", "task"),
    Facet("base", "Base model", "Base model's id."),
    Facet(
        "target",
        "Target modules",
        "A module that it adapts, e.g. q_proj.",
        "target_modules",
        lambda content: list(content.target_names)[:MAX_TARGETS],
        all_of=True,
    ),
    Facet("method", "Method", "lora, rslora, dora, …", "method", lambda content: content.config.method),
    Facet("dtype", "Weights", "F32, F16, BF16.", "dtype", lambda content: content.dtype),
    Facet("license", "License", "SPDX id, e.g. apache-2.0.", "license"),
    Facet("tag", "Tags", "A word of its card.", "tags", all_of=True),
    Facet("rank", "Rank", "", "rank", lambda content: content.config.effective_rank, kind=int),
    Facet("alpha", "Alpha", "", "alpha", lambda content: content.config.alpha, kind=float, counted=False),
)
"""In the order of the list page."""

COUNTED = tuple(facet for facet in FACETS if facet.counted)
KEPT = tuple(facet for facet in FACETS if facet.column)
