"""Ask a model the held-out prompts, and see whether its answers have the form that was taught."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hub.training.encoding import render_prompt
from hub.training.examples import Example

if TYPE_CHECKING:
    from hub.runtime import Model

LABELS = frozenset({"positive", "negative", "neutral"})
_ROWS_AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Score:
    """How many of `asked` answers have the right form, and how many are the very answer that was expected."""

    asked: int
    formed: int
    right: int

    @property
    def share(self) -> float:
        """The share of answers in the right form, 0 to 1."""
        return self.formed / self.asked


def is_json_answer(text: str) -> bool:
    """Whether a text is one line of JSON, an object with the text "answer" and nothing else."""
    if "\n" in text:
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and list(value) == ["answer"] and isinstance(value["answer"], str)


def is_label(text: str) -> bool:
    """Whether a text is one of the three labels and nothing else."""
    return text in LABELS


def score(answers: Sequence[str], examples: Sequence[Example], has_form: Callable[[str], bool]) -> Score:
    """Compare answers with what was expected, in order."""
    pairs = list(zip(answers, examples, strict=True))
    return Score(
        asked=len(pairs),
        formed=sum(has_form(answer) for answer, _ in pairs),
        right=sum(answer == example.completion for answer, example in pairs),
    )


def answer(
    model: Model, examples: Sequence[Example], max_new_tokens: int, heard: Callable[[int], None] | None = None
) -> list[str]:
    """Return the model's most likely answer to each prompt, without the white space around it.

    heard: is told how many prompts have been answered.
    """
    answers: list[str] = []
    for start in range(0, len(examples), _ROWS_AT_ONCE):
        answers += _answer_rows(model, examples[start : start + _ROWS_AT_ONCE], max_new_tokens)
        if heard:
            heard(len(answers))
    return answers


def _answer_rows(model: Model, examples: Sequence[Example], max_new_tokens: int) -> list[str]:
    inputs = encode_prompts(model, examples)
    tokens = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    new = tokens[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in model.tokenizer.batch_decode(new, skip_special_tokens=True)]


def encode_prompts(model: Model, examples: Sequence[Example]) -> dict[str, Any]:
    """Return input_ids and attention_mask of the prompts, (rows, length), padded on the left as generation needs."""
    tokenizer = model.tokenizer
    texts = [render_prompt(tokenizer, example) for example in examples]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    inputs = tokenizer(
        texts,
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=not tokenizer.chat_template,
        return_token_type_ids=False,
    )
    return {name: value.to(model.base.device) for name, value in inputs.items()}
