"""An adapter in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hub.adapter.content import AdapterContent
from hub.runtime.selection import Choice
from hub.runtime.updates import Update


@dataclass(frozen=True)
class Loaded:
    """One adapter in memory.  updates: module index -> update.  folder: where it can be read again."""

    ref: str
    folder: Path
    content: AdapterContent
    updates: Mapping[int, Update]
    size_bytes: int
    choice: Choice = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choice", Choice(self.updates, (self.ref,), self.ref))
