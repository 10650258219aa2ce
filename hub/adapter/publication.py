"""What is said of a version besides its files: one value, from the command line to the row in the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from hub.errors import InvalidRequest
from hub.refs import AdapterRef, parse_alias

MAX_MESSAGE_LENGTH = 10_000
MAX_TASK_LENGTH = 96
MAX_PARENTS = 50


class Said(TypedDict, total=False):
    """The fields of a Publication as users write them: refs may be texts."""

    task: str | None
    message: str
    alias: str | None
    private: bool | None
    trained_from: Sequence[str | AdapterRef]
    merged_from: Sequence[str | AdapterRef]


@dataclass(frozen=True, slots=True)
class Publication:
    """What a push says.  Raises InvalidRequest for words that are too long, InvalidRef for what can be no alias.

    task: what the adapter does.  message: what changed.  alias: is moved to the version.
    private: who may read an adapter that is new; None: as its namespace does.
    trained_from, merged_from: the versions that it was made of.
    """

    task: str | None = None
    message: str = ""
    alias: str | None = None
    private: bool | None = None
    trained_from: tuple[AdapterRef, ...] = ()
    merged_from: tuple[AdapterRef, ...] = ()

    def __post_init__(self) -> None:
        if len(self.message) > MAX_MESSAGE_LENGTH:
            raise InvalidRequest(f"A message has at most {MAX_MESSAGE_LENGTH:,} characters.")
        if self.task is not None and not 1 <= len(self.task.strip()) <= MAX_TASK_LENGTH:
            raise InvalidRequest(
                f"A task is a word or a few, at most {MAX_TASK_LENGTH} characters, e.g. question-answering."
            )
        if self.alias is not None:
            parse_alias(self.alias)
        if len(self.trained_from) + len(self.merged_from) > MAX_PARENTS:
            raise InvalidRequest(f"A version comes from at most {MAX_PARENTS} others.")

    @classmethod
    def parse(cls, **said: Unpack[Said]) -> Publication:
        """Read refs from texts where they are texts.  Raises InvalidRef."""
        trained_from, merged_from = _refs(said.get("trained_from", ())), _refs(said.get("merged_from", ()))
        given: dict[str, Any] = {**said, "trained_from": trained_from, "merged_from": merged_from}
        return cls(**given)

    @property
    def lineage(self) -> tuple[tuple[str, AdapterRef], ...]:
        """(kind, parent), each once."""
        trained = [("trained-from", ref) for ref in self.trained_from]
        return tuple(dict.fromkeys(trained + [("merged-from", ref) for ref in self.merged_from]))

    def to_json(self) -> dict[str, Any]:
        """Return what the registry's API takes beside the manifest."""
        said: dict[str, Any] = {
            "task": self.task,
            "message": self.message,
            "alias": self.alias,
            "private": self.private,
            "trained_from": [str(ref) for ref in self.trained_from],
            "merged_from": [str(ref) for ref in self.merged_from],
        }
        return {key: value for key, value in said.items() if value is not None}


def _refs(items: Iterable[str | AdapterRef]) -> tuple[AdapterRef, ...]:
    return tuple(AdapterRef.parse(item) if isinstance(item, str) else item for item in items)
