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
from hub.runtime.kernel.ways import Way, current, native
from hub.runtime.modes import kept_tensors

PANEL_WEIGHTS = 1 << 18
"""How many weights are dequantized at once: 1 MB."""


def product(x: torch.Tensor, weight: torch.Tensor, state: Any, bias: torch.Tensor | None) -> torch.Tensor | None:
    """Return `x @ W.T + bias`, or None where the kernel is off or can't compute that.

    x: (..., in_features), float32, on the CPU.  bias: (out_features,), float32.  Returns (..., out_features).
    """
    way = current()
    if way is None or x.dtype != torch.float32 or not x.is_cpu:
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
    out = x.new_empty(*x.shape[:-1], record.out_features)
    x = x.contiguous()
    if rows > way.few_rows:
        flat, into = x.view(rows, record.in_features), out.view(rows, record.out_features)
        for first, last, dense in _panels(record, way):
            _multiply(flat, dense, None if bias is None else bias[first:last], into[:, first:last])
        return out
    if bias is not None:
        bias = bias.contiguous()
    address = 0 if bias is None else bias.data_ptr()
    native.product(record.packed, way.place, x.data_ptr(), address, out.data_ptr(), rows, torch.get_num_threads())
    return out


def _multiply(x: torch.Tensor, dense: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    if bias is None:
        torch.mm(x, dense.t(), out=out)
    else:
        torch.addmm(bias, x, dense.t(), out=out)


class _Panel(threading.local):
    """One thread's room for dequantized weights."""

    weights: torch.Tensor | None = None

    def room(self, size: int) -> torch.Tensor:
        if self.weights is None or self.weights.numel() < size:
            with kept_tensors():
                self.weights = torch.empty(max(size, PANEL_WEIGHTS), dtype=torch.float32)
        return self.weights[:size]


_PANEL = _Panel()


def _panels(record: Record, way: Way) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first row, end, W[first:end]) for the whole weight; each panel is gone when the next one comes."""
    step = max(1, PANEL_WEIGHTS // record.in_features)
    for first in range(0, record.out_features, step):
        last = min(first + step, record.out_features)
        dense = _PANEL.room((last - first) * record.in_features).view(last - first, record.in_features)
        native.dequantize(record.packed, way.place, dense.data_ptr(), first, last, torch.get_num_threads())
        yield first, last, dense


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
    """Return `grad @ W`.  grad: (rows, out_features)."""
    total = grad.new_zeros(grad.shape[0], record.in_features)
    with torch.no_grad():
        for first, last, dense in _panels(record, way):
            total.addmm_(grad[:, first:last], dense)
    return total
