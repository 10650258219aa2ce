"""What can be computed from a version, and the outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["waiting", "made", "failed"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A function of a version's files, or of those of two versions.

    function: `module:name`; called in a process of its own with one `files` (path -> Readable) per version; returns
    what JSON can say.  needs: files without which there is nothing to compute.
    version: goes up when the function gives other results; what was made before is made again.
    cpu_seconds, memory_bytes: what a job may take at most.  imports: modules that are loaded once for many jobs.
    is_swept: made of every version by itself; else when somebody asks.
    """

    name: str
    version: int
    function: str
    cpu_seconds: int
    memory_bytes: int
    needs: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    is_swept: bool = True

    @property
    def key(self) -> str:
        return f"{self.name}.{self.version}"

    @property
    def deadline_seconds(self) -> int:
        """How long a job may take by the clock: it is niced, and the machine may be busy."""
        return 4 * self.cpu_seconds + 10


@dataclass(frozen=True, slots=True)
class Derived:
    """A value that was made, or why there is none: it waits, or failed for good with a reason that may be shown."""

    state: State
    value: Any = None
    reason: str = ""


WAITING = Derived("waiting")


@dataclass(frozen=True, slots=True)
class Job:
    """One value to make.  digests: of the versions whose files it takes, in order; one or two."""

    recipe: Recipe
    digests: tuple[str, ...]
    share: str

    @property
    def row_key(self) -> dict[str, str]:
        """Return the primary key of its row."""
        other = self.digests[1] if len(self.digests) > 1 else ""
        return {"recipe": self.recipe.key, "digest": self.digests[0], "other": other}
