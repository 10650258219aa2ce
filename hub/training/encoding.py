"""Examples as token ids: which of them are read, which are learned, and in what order they come."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hub.errors import InvalidRequest
from hub.training.examples import Example


@dataclass(frozen=True, slots=True)
class Row:
    """One example's tokens.  ids[start:] is the completion with its end mark: the only part that is learned."""

    ids: tuple[int, ...]
    start: int


def render_prompt(tokenizer: Any, example: Example) -> str:
    """Return the text before the answer: the chat template up to the assistant's turn, or the bare prompt."""
    if not tokenizer.chat_template:
        return "\n".join(message.content for message in example.context)
    messages = [message.to_json() for message in example.context]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return str(text)


def encode(tokenizer: Any, example: Example, max_length: int) -> Row:
    """Return an example's tokens; prompt and completion are encoded apart, as they are when text is generated.

    Raises InvalidRequest when they are more than `max_length`: cutting would teach half an answer.
    """
    prompt = tokenizer(render_prompt(tokenizer, example), add_special_tokens=not tokenizer.chat_template).input_ids
    completion = tokenizer(example.completion + _end_mark(tokenizer), add_special_tokens=False).input_ids
    if len(prompt) + len(completion) > max_length:
        raise InvalidRequest(
            f"An example has {len(prompt) + len(completion)} tokens; max_length is {max_length}: "
            f"{example.prompt[:60]!r}. Shorten it, or raise max_length."
        )
    return Row((*prompt, *completion), len(prompt))


def batches(rows: Sequence[Row], size: int, seed: int) -> Iterator[list[Row]]:
    """Yield batches of `size` rows for ever: each pass over the rows in a new order, which the seed fixes."""
    order = random.Random(seed)
    waiting: list[Row] = []
    while True:
        while len(waiting) < size:
            waiting += order.sample(rows, len(rows))
        yield waiting[:size]
        waiting = waiting[size:]


def _end_mark(tokenizer: Any) -> str:
    return str(tokenizer.eos_token or "")
