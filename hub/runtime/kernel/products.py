"""`x W^T` and its gradient for a 4-bit weight.

Few rows are multiplied by the codes as they are read.  For many rows a panel of weights that fits in the cache is
dequantized, multiplied by BLAS, and forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from hub.runtime.kernel.records import Record, record_of
from hub.runtime.kernel.ways import FEW_NARROW_ROWS, Way, current, multiplies_bfloat16, native
from hub.runtime.modes import kept_tensors

PANEL_WEIGHTS = 1 << 20
"""How many weights are dequantized at once: 4 MB.  Half of that costs BLAS 8 % more time, twice that gains nothing."""


DTYPES = (torch.float32, torch.bfloat16)


def product(x: torch.Tensor, weight: torch.Tensor, state: Any, bias: torch.Tensor | None) -> torch.Tensor | None:
    """Return `x @ W.T + bias`, or None where the kernel is off or can't compute that.

    x: (..., in_features), float32 or bfloat16, on the CPU.  bias: (out_features,), in x's dtype.
    Returns (..., out_features) in x's dtype.  Few rows of bfloat16, and all where the CPU doesn't multiply that, are
    computed in float32 and rounded once.
    """
    way = current()
    if way is None or x.dtype not in DTYPES or not x.is_cpu:
        return None
    record = record_of(weight, state)
    if record is None or x.shape[-1] != record.in_features:
        return None
    if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
        out: torch.Tensor = _Product.apply(x, bias, weight, record, way)
        return out
    return _forward(x, bias, record, way)


def _forward(x: torch.Tensor, bias: torch.Tensor | None, record: Record, way: Way) -> torch.Tensor:
    rows = x.numel() // record.in_features
    if x.dtype == torch.bfloat16 and (rows <= FEW_NARROW_ROWS or not multiplies_bfloat16()):
        return _forward(x.float(), None if bias is None else bias.float(), record, way).to(x.dtype)
    if x.dtype == torch.bfloat16 or rows > way.few_rows:
        return _many(x, bias, rows, record, way)
    return _few(x, bias, rows, record, way)


def _many(x: torch.Tensor, bias: torch.Tensor | None, rows: int, record: Record, way: Way) -> torch.Tensor:
    out = x.new_empty(*x.shape[:-1], record.out_features)
    flat, into = x.reshape(rows, record.in_features), out.view(rows, record.out_features)
    for first, last, dense in _row_panels(record, way, x.dtype):
        if bias is None:
            torch.mm(flat, dense.t(), out=into[:, first:last])
        else:
            torch.addmm(bias[first:last], flat, dense.t(), out=into[:, first:last])
    return out


def _few(x: torch.Tensor, bias: torch.Tensor | None, rows: int, record: Record, way: Way) -> torch.Tensor:
    out = x.new_empty(*x.shape[:-1], record.out_features)
    x = x.contiguous()
    if bias is not None:
        bias = bias.contiguous()
    address = 0 if bias is None else bias.data_ptr()
    native.product(record.packed, way.place, x.data_ptr(), address, out.data_ptr(), rows, torch.get_num_threads())
    return out


class _Panel(threading.local):
    """One thread's room for dequantized weights."""

    weights: torch.Tensor | None = None

    def room(self, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        """Return an array whose values are undefined.  It is the same memory every time."""
        size = rows * columns
        if self.weights is None or self.weights.numel() < size:
            with kept_tensors():
                self.weights = torch.empty(max(size, PANEL_WEIGHTS), dtype=torch.float32)
        return self.weights.view(dtype)[:size].view(rows, columns)


_PANEL = _Panel()


def _row_panels(record: Record, way: Way, dtype: torch.dtype) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first row, end, W[first:end]) for the whole weight; each panel is gone when the next one comes."""
    for first, last in _steps(record.out_features, record.in_features):
        yield first, last, _dequantized(record, way, dtype, (first, last), (0, record.in_features))


def _column_panels(record: Record, way: Way, dtype: torch.dtype) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first column, end, W[:, first:end]), as above."""
    for begin, end in _steps(record.in_features, record.out_features):
        yield begin, end, _dequantized(record, way, dtype, (0, record.out_features), (begin, end))


def _steps(count: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut `count` lines of `width` weights into panels, at whole words of 8 codes."""
    step = max(8, PANEL_WEIGHTS // width // 8 * 8)
    return ((first, min(first + step, count)) for first in range(0, count, step))


def _dequantized(
    record: Record, way: Way, dtype: torch.dtype, rows: tuple[int, int], columns: tuple[int, int]
) -> torch.Tensor:
    dense = _PANEL.room(rows[1] - rows[0], columns[1] - columns[0], dtype)
    where = (dense.data_ptr(), dtype == torch.bfloat16, *rows, *columns)
    native.dequantize(record.packed, way.place, *where, torch.get_num_threads())
    return dense


class _Product(torch.autograd.Function):
    """The product, with a gradient for x and bias: dX = dY W.  The weight has none."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, weight: torch.Tensor, record: Record, way: Way
    ) -> torch.Tensor:
        ctx.weight, ctx.record, ctx.way = weight, record, way  # the weight: its codes must live until the gradient
        return _forward(x.detach(), None if bias is None else bias.detach(), record, way)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        record: Record = ctx.record
        flat = grad.reshape(-1, record.out_features)
        for_x = _gradient(flat, record, ctx.way).view(*grad.shape[:-1], -1) if ctx.needs_input_grad[0] else None
        for_bias = flat.sum(0) if ctx.needs_input_grad[1] else None
        return for_x, for_bias, None, None, None


def _gradient(grad: torch.Tensor, record: Record, way: Way) -> torch.Tensor:
    """Return `grad @ W`.  grad: (rows, out_features).  Each column is one sum, also in bfloat16."""
    if grad.dtype == torch.bfloat16 and not multiplies_bfloat16():
        return _gradient(grad.float(), record, way).to(grad.dtype)
    out = grad.new_empty(grad.shape[0], record.in_features)
    with torch.no_grad():
        for begin, end, dense in _column_panels(record, way, grad.dtype):
            torch.mm(grad, dense, out=out[:, begin:end])
    return out
