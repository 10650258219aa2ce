"""The dense weight behind a module, whatever its kind, as (out_features, in_features)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hub.runtime import four_bit
from hub.runtime.offloaded import weights_here


def is_conv1d(module: nn.Module) -> bool:
    """Whether `module` is transformers' Conv1D (gpt2): a linear layer whose weight is stored transposed."""
    return any(
        cls.__name__ == "Conv1D" and cls.__module__ == "transformers.pytorch_utils" for cls in type(module).__mro__
    )


def is_linear(module: nn.Module) -> bool:
    """Whether a low-rank pair of the Linear kind fits: Linear, Linear4bit, Conv1D."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)


def is_four_bit(module: nn.Module) -> bool:
    return isinstance(module, four_bit.Linear4bit)


def features(module: nn.Module) -> tuple[int, int]:
    """Return (in_features, out_features); of an embedding, its vocabulary and width."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    weight: Any = module.weight  # Conv1D: (in, out)
    return weight.shape[0], weight.shape[1]


def dense_weight(module: nn.Module, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the weight as (out_features, in_features); of an embedding as (width, vocabulary)."""
    with weights_here(module):
        weight: Any = module.weight
        if is_four_bit(module):
            return four_bit.dequantize(weight, weight.quant_state, dtype)
        data: torch.Tensor = weight.detach().to(dtype)
    return data.T if is_conv1d(module) or is_embedding(module) else data
