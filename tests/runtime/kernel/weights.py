"""4-bit weights, and what they stand for by the formula of their paper, in float64."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes import functional as bnb_functional

Quantized = tuple[torch.Tensor, Any]


def quantized(shape: tuple[int, int], *, kind: str = "nf4", block: int = 64, double: bool = True) -> Quantized:
    """Return codes and statistics of a random weight whose blocks have scales of many sizes."""
    dense = torch.randn(shape) * torch.randn(shape[0], 1).exp()
    return bnb_functional.quantize_4bit(dense, quant_type=kind, blocksize=block, compress_statistics=double)


def formula(codes: torch.Tensor, state: Any) -> torch.Tensor:
    """Return the dense weight in float32.

    Blocks run over the flat weight; two codes share a byte, the earlier one in the high half.  A scale of double
    quantization is a code itself.  Source: Dettmers et al. 2023, arXiv:2305.14314, section 3.
    """
    pairs = codes.view(-1).long()
    values = state.code[torch.stack([pairs >> 4, pairs & 15], dim=1).view(-1)[: state.shape.numel()]]
    scales = state.absmax
    if state.nested:
        second = state.state2
        groups = second.absmax.repeat_interleave(second.blocksize)[: scales.numel()]
        scales = second.code[scales.long()] * groups + state.offset
    return (values * scales.repeat_interleave(state.blocksize)[: values.numel()]).view(state.shape)
