"""Several adapters at once, each with a weight: their updates are added.

    exact      the factors side by side: rank r1 + r2, the sum to the last bit of what two products give
    low rank   the best approximation of a given rank: QR of the factors, then an SVD of (r1 + r2) x (r1 + r2)

Neither ever builds a dense (out x in) update, which is what makes an SVD of it slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from hub.errors import InvalidRequest, Unsupported
from hub.runtime.modes import kept_tensors
from hub.runtime.selection import Choice
from hub.runtime.updates import LowRank, Update


@kept_tensors()
def combine(parts: Sequence[tuple[Choice, float]], names: Mapping[int, str], rank: int | None = None) -> Choice:
    """Return the choice that adds `weight * update` of every part.

    rank: the rank of an approximation; None is exact.
    Raises Unsupported for updates that don't add: DoRA, replaced modules and tokens, embeddings.
    """
    if rank is not None and rank < 1:
        raise InvalidRequest(f"rank={rank}: a combination needs a rank of at least 1, or None for the exact one.")
    refs = tuple(ref for choice, _ in parts for ref in choice.refs)
    updates: dict[int, Update] = {}
    for index in sorted({index for choice, _ in parts for index in choice.updates}):
        found = [(choice.updates[index], weight) for choice, weight in parts if index in choice.updates]
        exact = _side_by_side(names[index], found)
        updates[index] = exact if rank is None or exact.rank <= rank else truncate(exact, rank)
    label = {ref: weight for choice, weight in parts for ref in choice.refs}
    return Choice(updates, refs, label)


def _side_by_side(name: str, parts: Sequence[tuple[Update, float]]) -> LowRank:
    pairs = [(update, weight) for update, weight in parts if isinstance(update, LowRank)]
    if len(pairs) < len(parts):
        raise Unsupported(
            f"{name}: only plain low-rank updates add up; one of these adapters has another kind there (DoRA, a "
            "replaced module, trained tokens, an embedding). Use one adapter at a time."
        )
    factors = [update.factors(weight) for update, weight in pairs]
    a = torch.cat([a for a, _ in factors])
    b = torch.cat([b for _, b in factors], dim=1)
    biases = [update.bias * weight for update, weight in pairs if update.bias is not None]
    return LowRank(a.t(), b.t(), torch.stack(biases).sum(0) if biases else None)


def truncate(update: LowRank, rank: int) -> LowRank:
    """Return the rank-`rank` update that is nearest to `update` in the Frobenius norm (Eckart and Young 1936)."""
    q_a, r_a = torch.linalg.qr(update.a_t.float())  # (in, r) (r, r)
    q_b, r_b = torch.linalg.qr(update.factors()[1].float())  # (out, r) (r, r)
    u, s, v_t = torch.linalg.svd(r_b @ r_a.t())  # B A = q_b (r_b r_a^T) q_a^T
    half = s[:rank].sqrt()
    a_t = q_a @ (v_t[:rank].t() * half)
    b = q_b @ (u[:, :rank] * half)
    dtype = update.a_t.dtype
    return LowRank(a_t.to(dtype), b.t().to(dtype), update.bias)
