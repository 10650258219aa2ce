"""4-bit linear layers: a float32 product that is quick on a CPU, and bitsandbytes' traps kept out.

Why not `Linear4bit.forward`: on a CPU with AVX512-BF16 its first call in eval mode repacks `weight.data` in place,
after which dequantizing, merging, moving and saving are silently wrong, and its result is rounded to bfloat16.
Everywhere else it allocates the dense weight anew and passes three layers of dispatch per call: on a 576 x 576 layer
that is nearly half of its time.

`product` computes the same function from the codes (`hub.runtime.kernel`), summed in an order of its own.  Where that
kernel is off or can't, it dequantizes with bitsandbytes' own code into a buffer that is used again: equal to the last
bit.  Neither touches the stored weight.
"""

from __future__ import annotations

import copy
import ctypes
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from bitsandbytes import functional as bnb_functional
from bitsandbytes.nn import Linear4bit as Linear4bit
from torch import nn
from torch.nn import functional

from hub.runtime import kernel
from hub.runtime.modes import kept_tensors


def keep_weights_unpacked(modules: Iterable[nn.Module]) -> int:
    """Make sure that no 4-bit layer repacks its weight; unpack those that already did.  Returns how many there are.

    A weight that was packed has lost a little already (its statistics were rounded to bfloat16), so a base should be
    handed over before its first forward pass.
    """
    count = 0
    for module in modules:
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
            _unpack(module)
            count += 1
    return count


def is_packed(module: Linear4bit) -> bool:
    """Whether the layer's bytes are in the CPU kernel's own order, which nothing else can read."""
    return bool(getattr(module.weight.quant_state, "packing_format_for_cpu", False))


def _unpack(module: Linear4bit) -> None:
    if is_packed(module):
        inverse = bnb_functional._convert_weight_packed_for_cpu_inverse
        module.weight.data, module.weight.quant_state = inverse(module.weight.data, module.weight.quant_state)
        module.quant_state = module.weight.quant_state


def dequantize(weight: torch.Tensor, state: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the dense (out_features, in_features) weight that the 4-bit codes stand for."""
    plain = copy.copy(state)
    plain.dtype = dtype
    if weight.is_cpu and len(state.shape) == 2:
        plain.shape = torch.Size(_safe_shape(*state.shape, block=state.blocksize))
    return bnb_functional.dequantize_4bit(weight.data, plain).view(state.shape)


def _safe_shape(rows: int, columns: int, *, block: int) -> tuple[int, int]:
    """Return the shape as which bitsandbytes dequantizes a weight rightly: one row, where rows end within a block.

    Its AVX-512 code begins every row at a block of its own; quantizing goes by the flat weight, as on a GPU.
    """
    return (rows, columns) if columns % block == 0 else (1, rows * columns)


def quantize_like(weight: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """Return the 4-bit codes and statistics of a dense weight, with the settings of `state`."""
    codes, new_state = bnb_functional.quantize_4bit(
        weight.contiguous(),
        blocksize=state.blocksize,
        compress_statistics=state.nested,
        quant_type=state.quant_type,
        quant_storage=torch.uint8,
    )
    new_state.dtype = state.dtype
    return codes, new_state


@dataclass(frozen=True)
class FourBitWeight:
    """Codes and statistics of a 4-bit weight that is no module's parameter."""

    codes: torch.Tensor
    state: Any


def dense_product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return `x @ weight.T + bias` in x's dtype; a narrower weight is widened in this thread's buffer."""
    if bias is not None and bias.dtype != x.dtype:
        bias = bias.to(x.dtype)
    if weight.dtype != x.dtype:
        reuse = x.dtype == torch.float32 and x.is_cpu and not (x.requires_grad and torch.is_grad_enabled())
        weight = _scratch(*weight.shape)[0].copy_(weight) if reuse else weight.to(x.dtype)
    return functional.linear(x, weight, bias)


def product(
    x: torch.Tensor, weight: torch.Tensor, state: Any, bias: torch.Tensor | None, compute_dtype: torch.dtype | None
) -> torch.Tensor:
    """Return `x @ W.T + bias` for a 4-bit weight: the function that bitsandbytes' own forward computes.

    x: (..., in_features), any float dtype.  Returns (..., out_features) in x's dtype.
    """
    dtype = x.dtype
    wide = x if compute_dtype is None or compute_dtype == dtype else x.to(compute_dtype)
    if bias is not None and bias.dtype != wide.dtype:
        bias = bias.to(wide.dtype)
    out = kernel.product(wide, weight, state, bias)
    if out is None:
        out = _dequantized_product(wide, weight, state, bias)
    return out if out.dtype == dtype else out.to(dtype)


def _dequantized_product(x: torch.Tensor, weight: torch.Tensor, state: Any, bias: torch.Tensor | None) -> torch.Tensor:
    dense = _dense_in_scratch(x, weight, state)
    if dense is not None:
        return functional.linear(x, dense, bias)
    if weight.is_cpu and len(state.shape) == 2 and state.shape[1] % state.blocksize:
        return functional.linear(x, dequantize(weight, state, x.dtype), bias)
    out: torch.Tensor = _bitsandbytes_product(x, weight, state, bias)
    return out


def describe_products(modules: Iterable[nn.Module]) -> str | None:
    """Return what computes the products of these layers' 4-bit weights; None if they have none."""
    first = next((module for module in modules if isinstance(module, Linear4bit)), None)
    if first is None:
        return None
    return kernel.describe() if first.weight.is_cpu else "bitsandbytes"


def _bitsandbytes_product(x: torch.Tensor, weight: torch.Tensor, state: Any, bias: torch.Tensor | None) -> Any:
    import bitsandbytes

    return bitsandbytes.matmul_4bit(x, weight, bias=bias, quant_state=state)


def _dense_in_scratch(x: torch.Tensor, weight: torch.Tensor, state: Any) -> torch.Tensor | None:
    """Return the dense weight in this thread's buffer, or None where the general way must be taken."""
    kernels = _kernels() if x.dtype == torch.float32 and x.is_cpu else None
    if kernels is None or state.quant_type != "nf4" or len(state.shape) != 2:
        return None
    if x.requires_grad and torch.is_grad_enabled():
        return None  # the backward pass would read a buffer that has moved on
    rows, columns = state.shape
    if columns % 2 or x.shape[-1] != columns:
        return None
    with torch._C.DisableTorchFunctionSubclass():  # Params4bit answers every attribute in Python otherwise: 2 µs each
        if not weight.is_cpu or weight.dtype != torch.uint8:
            return None
        codes = weight.data_ptr()
    dense, address = _scratch(rows, columns)
    shape = _safe_shape(rows, columns, block=state.blocksize)
    kernels.nf4(codes, _scales(kernels, state).data_ptr(), address, state.blocksize, *shape)
    return dense


def _scales(kernels: _Kernels, state: Any) -> torch.Tensor:
    """Return one float32 scale per block of weights; those of double quantization in this thread's buffer."""
    absmax: torch.Tensor = state.absmax
    if not state.nested:
        return absmax
    count = absmax.numel()
    scales, address = _scratch(0, count)
    second = state.state2
    kernels.blocks(
        second.code.data_ptr(), absmax.data_ptr(), second.absmax.data_ptr(), address, second.blocksize, count
    )
    return scales.add_(state.offset)


class _Scratch(threading.local):
    """Buffers of one thread: dense weights of all shapes share the memory of the largest; so do scales."""

    def __init__(self) -> None:
        self.views: dict[tuple[int, int], tuple[torch.Tensor, int]] = {}
        self.buffers: dict[bool, torch.Tensor] = {}


_SCRATCH = _Scratch()


def _scratch(rows: int, columns: int) -> tuple[torch.Tensor, int]:
    """Return a float32 buffer of that shape, and its address.  No rows: a vector of scales."""
    found = _SCRATCH.views.get((rows, columns))
    if found is not None:
        return found
    is_vector, needed = rows == 0, max(rows, 1) * columns
    buffer = _SCRATCH.buffers.get(is_vector)
    if buffer is None or buffer.numel() < needed:
        kept = {shape: view for shape, view in _SCRATCH.views.items() if (shape[0] == 0) != is_vector}
        _SCRATCH.views = kept
        with kept_tensors():
            buffer = _SCRATCH.buffers[is_vector] = torch.empty(needed, dtype=torch.float32)
    with kept_tensors():
        view = buffer[:needed] if is_vector else buffer[:needed].view(rows, columns)
    found = _SCRATCH.views[(rows, columns)] = (view, view.data_ptr())
    return found


class _Kernels(NamedTuple):
    """bitsandbytes' own CPU kernels.

    nf4:     codes, scales, out, block size, rows, columns
    blocks:  code table, codes, scales, out, block size, count
    """

    nf4: Any
    blocks: Any


@cache
def _kernels() -> _Kernels | None:
    """Return the kernels, or None if this build of bitsandbytes has none for the CPU."""
    from bitsandbytes.cextension import lib

    path = getattr(getattr(lib, "_lib", None), "_name", None)
    if not path:
        return None
    try:
        library = ctypes.CDLL(path)
        nf4, blocks = library.cdequantize_blockwise_cpu_nf4_fp32, library.cdequantize_blockwise_cpu_fp32
    except (OSError, AttributeError):
        return None
    nf4.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_longlong] * 3
    blocks.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_longlong] * 2
    nf4.restype = blocks.restype = None
    return _Kernels(nf4, blocks)
