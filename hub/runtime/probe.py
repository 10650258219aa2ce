"""Compare two choices by what the model says next, over fixed probe tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

ROWS, LENGTH = 4, 16
_TEXT = (
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "Question: How many legs does a spider have? Answer in one word.",
    "Review: the food was cold and the waiter was rude. Sentiment:",
    'Return JSON with the keys "name" and "age" for a person of your choice.',
)


def probe_tokens(vocabulary: int, tokenizer: Any | None, device: torch.device) -> torch.Tensor:
    """Return (ROWS, LENGTH) token ids, always the same: fixed texts if there is a tokenizer, else a fixed draw."""
    if tokenizer is not None:
        rows = [_exactly(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in _TEXT]
        return torch.tensor(rows, device=device) % vocabulary
    draw = torch.Generator().manual_seed(20_260_101)
    return torch.randint(0, vocabulary, (ROWS, LENGTH), generator=draw).to(device)


def _exactly(ids: list[int]) -> list[int]:
    return (ids * LENGTH)[:LENGTH] if ids else [0] * LENGTH


@torch.no_grad()
def compare(before: Callable[[], torch.Tensor], after: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """Return the mean KL divergence of `after` from `before` in nats, and how often both say the same top token.

    Both return logits (rows, length, vocabulary).
    """
    p = torch.log_softmax(before().double(), dim=-1)
    q = torch.log_softmax(after().double(), dim=-1)
    divergence = torch.sum(p.exp() * (p - q), dim=-1).mean().item()
    same = (p.argmax(-1) == q.argmax(-1)).double().mean().item()
    return max(divergence, 0.0), same
