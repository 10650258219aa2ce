"""The dense weight behind a module, whatever its kind, as (out_features, in_features).

It is proven each time: the layer itself is asked for one vector, and must answer what the weight says.  So a layer
whose weight isn't all that it computes with (another quantization, scales of its own) is refused, not read as numbers.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from bitsandbytes.nn import Linear8bitLt
from torch import nn

from hub.errors import Unsupported
from hub.runtime import four_bit
from hub.runtime.offloaded import weights_here

_NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_ROUNDING = 0.05
"""How far a layer's answer may be from its weight's, of its size: 16 bits, or inputs in 8 bits, round far less."""


def is_conv1d(module: nn.Module) -> bool:
    """Whether `module` is transformers' Conv1D (gpt2): a linear layer whose weight is stored transposed."""
    return any(
        cls.__name__ == "Conv1D" and cls.__module__ == "transformers.pytorch_utils" for cls in type(module).__mro__
    )


def is_linear(module: nn.Module) -> bool:
    """Whether a low-rank pair of the Linear kind fits: Linear, Linear4bit, Conv1D."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def is_conv(module: nn.Module) -> TypeGuard[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """Whether `module` is a convolution over one, two or three dimensions."""
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))


def is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)


def is_four_bit(module: nn.Module) -> bool:
    return isinstance(module, four_bit.Linear4bit)


def is_int8(module: nn.Module) -> bool:
    """Whether `module` is bitsandbytes' 8-bit layer: codes, and a scale for every row (SCB)."""
    return isinstance(module, Linear8bitLt)


def is_quantized(module: nn.Module) -> bool:
    """Whether `module` is a linear layer whose weight is stored as something else than its numbers."""
    return is_linear(module) and (is_four_bit(module) or getattr(module.weight, "dtype", None) not in _NUMBERS)


def features(module: nn.Module) -> tuple[int, int]:
    """Return (in_features, out_features); of an embedding, its vocabulary and width."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    weight: Any = module.weight  # Conv1D: (in, out)
    return weight.shape[0], weight.shape[1]


def dense_weight(module: nn.Module, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the weight as (out_features, in_features); of an embedding as (width, vocabulary).

    Of a convolution, the kernel's places count as inputs: (out_channels, in_channels / groups * places).
    Raises Unsupported for a layer that computes something else than that.
    """
    with weights_here(module):
        weight = _stored_weight(module, dtype)
        _prove(module, weight)
    return weight


def _stored_weight(module: nn.Module, dtype: torch.dtype) -> torch.Tensor:
    weight: Any = module.weight
    if is_four_bit(module):
        return four_bit.dequantize(weight, weight.quant_state, dtype)
    if is_int8(module):
        layer: Any = module
        scales = weight.SCB if weight.SCB is not None else layer.state.SCB  # the first forward pass moves them
        return (weight.detach().float() * scales.float()[:, None] / 127).to(dtype)
    data: torch.Tensor = weight.detach().to(dtype)
    if is_conv(module):
        return data.flatten(1)
    return data.T if is_conv1d(module) or is_embedding(module) else data


def _prove(module: nn.Module, weight: torch.Tensor) -> None:
    """Raise Unsupported unless the layer answers a probe as `weight` does."""
    try:
        probe = _probe_convolution if is_conv(module) else _probe_embedding if is_embedding(module) else _probe_linear
        with torch.autocast(weight.device.type, enabled=False):  # what the layer computes, not what a caller rounds
            expected, found = probe(module, weight)
    except Exception as error:  # whatever a layer of an unknown kind raises
        raise _unproven(module, f"it can't be asked ({type(error).__name__}: {error})") from error
    off = (torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected).clamp(min=1e-30)).item()
    exact = module.weight.dtype in (torch.float32, torch.float64)
    if not off <= (1e-3 if exact else _ROUNDING):
        raise _unproven(module, f"its answer to a probe is {off:.3g} of its size away from its weight's")


def _probe_linear(module: Any, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(weight.shape[1])
    dtype = module.weight.dtype if module.weight.dtype in _NUMBERS else torch.float32
    x = torch.randn(1, weight.shape[1], generator=draw).to(weight.device, dtype)
    bias = module.bias
    expected = x.to(weight.dtype) @ weight.T
    return expected if bias is None else expected + bias.detach().to(weight.dtype), _bare(module, x).to(weight.dtype)


def _probe_embedding(module: Any, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([0, weight.shape[1] // 2, weight.shape[1] - 1], device=weight.device)
    return weight[:, ids].T * embed_scale(module), _bare(module, ids).to(weight.dtype)


def _probe_convolution(module: Any, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(weight.shape[1])
    shape = (1, module.in_channels, *module.kernel_size)
    x = torch.randn(shape, generator=draw).to(weight.device, module.weight.dtype)
    kernel = weight.view(module.weight.shape).to(module.weight.dtype)
    return module._conv_forward(x, kernel, module.bias).float(), _bare(module, x).float()


def _bare(module: Any, x: torch.Tensor) -> torch.Tensor:
    run: torch.Tensor = module.bare(x) if hasattr(module, "bare") else type(module).forward(module, x)
    return run.detach()


def embed_scale(module: nn.Module) -> float:
    """Return the factor that an embedding multiplies its rows by in its own forward (gemma 3), else 1."""
    scale = getattr(module, "embed_scale", None)
    if scale is None:
        return 1.0
    # PEFT multiplies by the scale as the embedding's own dtype rounds it.
    weight: Any = module.weight
    return float(torch.as_tensor(scale).to(weight.dtype))


def _unproven(module: nn.Module, why: str) -> Unsupported:
    return Unsupported(
        f"The dense weight of a {type(module).__name__} isn't known: {why}. DoRA and merging need it. Load the base "
        "dense (quantize=None), or as NF4."
    )
