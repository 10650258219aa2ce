"""Training data: JSON Lines, one example a line.

    {"prompt": "What is the capital of Spain?", "completion": "{\"answer\": \"Madrid\"}"}
    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

The completion, or the last message, is what the adapter learns to say; everything before it is only read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.errors import InvalidRequest

Data = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[Mapping[str, Any]]
"""A file of JSON Lines, several files, or the examples themselves."""

_ROLES = frozenset({"system", "user", "assistant", "tool"})


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str

    def to_json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """What is said before, and the answer to learn."""

    context: tuple[Message, ...]
    completion: str

    @property
    def prompt(self) -> str:
        """The text of the last message before the answer."""
        return self.context[-1].content

    @classmethod
    def from_json(cls, item: object) -> Example:
        """Raises ValueError with a text that says what is wrong with the item."""
        if not isinstance(item, Mapping):
            raise ValueError("it is no object")
        if "messages" in item:
            return cls._from_messages(item["messages"])
        prompt, completion = item.get("prompt"), item.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str):
            raise ValueError('it needs the texts "prompt" and "completion", or "messages"')
        return cls._checked((Message("user", prompt),), completion)

    @classmethod
    def _from_messages(cls, items: object) -> Example:
        if not isinstance(items, Sequence) or len(items) < 2:
            raise ValueError('"messages" needs two messages at least')
        messages = [_parse_message(item) for item in items]
        if messages[-1].role != "assistant":
            raise ValueError('the last of "messages" must be the assistant\'s: it is what is learned')
        return cls._checked(tuple(messages[:-1]), messages[-1].content)

    @classmethod
    def _checked(cls, context: tuple[Message, ...], completion: str) -> Example:
        if not completion.strip():
            raise ValueError("the completion is empty: there is nothing to learn")
        return cls(context, completion)


def read_examples(data: Data) -> list[Example]:
    """Return the examples of one file, of several, or of an iterable of objects, in their order.

    Raises InvalidRequest, which names the file and the line, for what isn't an example; and when there is none.
    """
    examples = [_parse(place, item) for place, item in _items(data)]
    if not examples:
        raise InvalidRequest("There are no examples to train on: the data is empty.")
    return examples


def _items(data: Data) -> Iterator[tuple[str, object]]:
    sources = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    for index, source in enumerate(sources, start=1):
        if isinstance(source, (str, os.PathLike)):
            yield from _lines(Path(source).expanduser())
        else:
            yield f"Example {index}", source


def _lines(path: Path) -> Iterator[tuple[str, object]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise InvalidRequest(f"The examples in {path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The examples in {path} are not UTF-8 text.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}, line {number}", _parse_line(path, number, line)


def _parse_line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InvalidRequest(f"{path}, line {number} is not JSON: {error}.") from error


def _parse(place: str, item: object) -> Example:
    try:
        return Example.from_json(item)
    except ValueError as error:
        raise InvalidRequest(f"{place} is no example: {error}.") from error


def _parse_message(item: object) -> Message:
    if not isinstance(item, Mapping) or not isinstance(item.get("content"), str) or item.get("role") not in _ROLES:
        raise ValueError(f'a message needs a text "content" and a "role" of {", ".join(sorted(_ROLES))}')
    return Message(item["role"], item["content"])
