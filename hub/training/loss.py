"""The completion's loss, for no more work than it needs.

Rows of a batch begin with the same tokens: the chat template and its system prompt, half of a short example.  What a
decoder computes for a token depends only on the tokens before it, so rows are packed into one sequence that holds their
common beginning once:

    common | row 1 | row 2 | row 3        each row sees the common part and itself; positions go on from the common part

No token is computed twice, and none is padding.  Attention costs the square of the sequence, so long rows are padded
instead.  Logits are taken only where a completion is predicted: with a
vocabulary of 50,000, all of them cost a fifth of a small model's forward.  Models that aren't known to take such a mask
get padded rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hub.training.encoding import Row

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The target of a token that is only read."""

MAX_PACKED_TOKENS = 1024

_PACKABLE_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


def completion_loss(model: Any, rows: Sequence[Row]) -> torch.Tensor:
    """Return the mean negative log likelihood, in nats, of the completions' tokens.

    Equals transformers' own loss with labels, up to the rounding of another order of sums.
    """
    import torch

    pack = can_pack(model) and sum(len(row.ids) for row in rows) <= MAX_PACKED_TOKENS
    logits, targets = _packed(model, rows) if pack else _padded(model, rows)
    return torch.nn.functional.cross_entropy(logits.float(), targets)


def can_pack(model: Any) -> bool:
    """Whether every layer attends to all that the mask allows, and the mask may have any form."""
    config = _inner(model).config
    attends_to_all = getattr(config, "sliding_window", None) is None or not getattr(config, "use_sliding_window", True)
    takes_masks = getattr(config, "_attn_implementation", None) in {"sdpa", "eager"}
    return config.model_type in _PACKABLE_TYPES and attends_to_all and takes_masks and _takes_logits_to_keep(model)


def common_prefix(rows: Sequence[Row]) -> int:
    """Return how many leading tokens all rows share, leaving each at least one token of its prompt."""
    longest = max(min(row.start for row in rows) - 1, 0)
    first = rows[0].ids
    return next((at for at in range(longest) if any(row.ids[at] != first[at] for row in rows)), longest)


def _packed(model: Any, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits, targets) of the completions' tokens: (tokens, vocabulary) and (tokens,)."""
    import torch

    device, shared = _inner(model).device, common_prefix(rows)
    ids, positions = list(rows[0].ids[:shared]), list(range(shared))
    owners, targets = [-1] * shared, [IGNORED] * shared
    for index, row in enumerate(rows):
        ids += row.ids[shared:]
        positions += range(shared, len(row.ids))
        owners += [index] * (len(row.ids) - shared)
        targets += _next_tokens(row)[shared:]
    learned = torch.tensor([at for at, target in enumerate(targets) if target != IGNORED], device=device)
    output = model(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        attention_mask=_block_mask(torch.tensor(owners), _inner(model).dtype).to(device),
        logits_to_keep=learned,
        use_cache=False,
    )
    return output.logits[0], torch.tensor(targets, device=device)[learned]


def _block_mask(owners: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return what each token may see, added to attention scores: (1, 1, tokens, tokens); 0 sees, the lowest doesn't."""
    import torch

    earlier = torch.ones(len(owners), len(owners), dtype=torch.bool).tril()
    allowed = earlier & ((owners[None, :] == -1) | (owners[None, :] == owners[:, None]))
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)[None, None]


def _padded(model: Any, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `_packed`, with rows padded on the right: any decoder takes these."""
    import torch

    device, length = _inner(model).device, max(len(row.ids) for row in rows)
    # Token 0 pads: the mask hides it, and no target looks at it.
    ids = torch.tensor([[*row.ids, *[0] * (length - len(row.ids))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row.ids) + [0] * (length - len(row.ids)) for row in rows], device=device)
    targets = torch.tensor([_next_tokens(row) + [IGNORED] * (length - len(row.ids)) for row in rows], device=device)
    first = int((targets != IGNORED).any(dim=0).nonzero()[0])
    kept = {"logits_to_keep": length - first} if _takes_logits_to_keep(model) else {}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits[:, first - length :]
    learned = targets[:, first:] != IGNORED
    return logits[learned], targets[:, first:][learned]


def _next_tokens(row: Row) -> list[int]:
    """Return, for each token of a row, the one to predict after it, or IGNORED."""
    return [following if at + 1 >= row.start else IGNORED for at, following in enumerate(row.ids[1:])] + [IGNORED]


def _takes_logits_to_keep(model: Any) -> bool:
    return "logits_to_keep" in inspect.signature(_inner(model).forward).parameters


def _inner(model: Any) -> Any:
    """Return the transformers model inside PEFT's."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
