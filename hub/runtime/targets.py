"""The dense parameters that an update amounts to: what merging writes, and what is measured against."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hub.runtime import dense
from hub.runtime.convolution import ConvLowRank
from hub.runtime.layers import follow
from hub.runtime.updates import Dora, EmbeddingLowRank, LowRank, Replaced, TokenLogits, Tokens, Update

Parameters = tuple[torch.Tensor, torch.Tensor | None]
"""A weight as (out, in) (of an embedding as (width, vocabulary)) in float32, and a bias or None."""


def apply(update: Update, module: nn.Module, weight: torch.Tensor) -> Parameters:
    """Return the weight and bias with which `module`, alone, computes what `update` computes on top of `weight`.

    weight: as `dense.dense_weight` returns it: the base's own, or the original behind a 4-bit one.
    """
    bias: Any = getattr(module, "bias", None)
    bias = None if bias is None else bias.detach().float()
    if isinstance(update, LowRank):
        return _low_rank(update, weight), _sum(bias, update.bias)
    if isinstance(update, ConvLowRank):
        return weight + update.delta(), _sum(bias, update.bias)
    if isinstance(update, Dora):
        return _low_rank(update.low_rank, weight * update.gain.float()[:, None]), bias
    if isinstance(update, EmbeddingLowRank):
        gained = weight if update.gain is None else weight * update.gain.float()[:, None]
        scaling = update.scaling / dense.embed_scale(module)
        return torch.addmm(gained, update.b_t.t().float(), update.a.float(), alpha=scaling), bias
    if isinstance(update, TokenLogits):
        return _with_tokens(update, module, weight), None if bias is None else torch.zeros_like(bias)
    if isinstance(update, Tokens):
        return _with_tokens(update, module, weight), bias
    if isinstance(update, Replaced):
        return _replaced(update, module, weight)
    raise TypeError(f"{type(update).__name__} has no dense form")


def has_dense_form(update: Update, module: nn.Module) -> bool:
    """Whether `apply` can be asked: the module has one weight, and the update changes that or its bias."""
    return dense.is_linear(module) or dense.is_embedding(module) or isinstance(update, ConvLowRank)


def _low_rank(update: LowRank, weight: torch.Tensor) -> torch.Tensor:
    a, b = update.factors()
    return torch.addmm(weight, b.float(), a.float())


def _sum(bias: torch.Tensor | None, added: torch.Tensor | None) -> torch.Tensor | None:
    if added is None:
        return bias
    return added.float() if bias is None else bias + added.float()


def _with_tokens(update: Tokens | TokenLogits, module: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    rows = update.rows.float() / (dense.embed_scale(module) if isinstance(update, Tokens) else 1.0)
    if dense.is_embedding(module):  # (width, vocabulary)
        return weight.index_copy(1, update.ids, rows.t())
    return weight.index_copy(0, update.ids, rows)


def _replaced(update: Replaced, module: nn.Module, weight: torch.Tensor) -> Parameters:
    follow(update.shadow, module, update.values)
    own = module._parameters.get("weight")
    is_other = update.shadow._parameters.get("weight") is not own
    weight = dense.dense_weight(update.shadow) if is_other else weight
    if update.then is not None:
        return apply(update.then, update.shadow, weight)
    bias: Any = getattr(update.shadow, "bias", None)
    return weight, None if bias is None else bias.detach().float()
