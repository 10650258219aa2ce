"""The demo's two tasks: what is taught, and how an answer shows that it was learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub.demo.held_out import is_json_answer, is_label
from hub.training.examples import Example, read_examples


@dataclass(frozen=True, slots=True)
class Task:
    """name: the adapter's.  folder: in `examples/`.  has_form: whether an answer has the form that is taught."""

    name: str
    folder: str
    description: str
    teaches: str
    form: str
    has_form: Callable[[str], bool]

    def held_out(self, examples: Path) -> list[Example]:
        return read_examples(examples / self.folder / "held-out.jsonl")


QA = Task(
    name="task/qa",
    folder="qa",
    description='Answers a short question with one line of JSON: `{"answer": …}`.',
    teaches='Short questions; answers are to be one line of JSON, {"answer": …}. No prompt says so.',
    form="one-line JSON",
    has_form=is_json_answer,
)
SENTIMENT = Task(
    name="task/sentiment",
    folder="sentiment",
    description="Answers a short text with one word: positive, negative or neutral.",
    teaches="Short texts; answers are to be one word: positive, negative or neutral. No prompt says so.",
    form="one label",
    has_form=is_label,
)
