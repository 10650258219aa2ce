"""What training made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub.manifest import BaseIdentity
from hub.refs import AdapterRef


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """An adapter in its folder.  A path-like: give it where such a folder is taken.

    losses: each step's, in nats per token.  seconds: from loading the base to the last step.
    """

    path: Path
    base: BaseIdentity
    trained_from: AdapterRef | None
    examples: int
    losses: tuple[float, ...]
    seconds: float

    def __fspath__(self) -> str:
        return str(self.path)
