"""What the compiled code needs to know of a 4-bit weight, gathered once."""

from __future__ import annotations

from typing import Any

import torch

from hub.runtime.kernel.ways import native

LEAST_BLOCK = 32


class Record:
    """The addresses of a weight's parts.  It is good for as long as they are the same tensors.

    packed: what the compiled code reads.  codes: their address.  scales, groups: kept, so that they live.
    """

    __slots__ = ("codes", "groups", "in_features", "out_features", "packed", "scales")

    def __init__(self, codes: int, state: Any, packed: bytes) -> None:
        self.codes, self.scales, self.groups, self.packed = codes, state.absmax, state.state2, packed
        self.out_features, self.in_features = state.shape

    def __reduce__(self) -> Any:
        return type(None), ()  # a copy of a weight has other addresses: its record is made anew

    def is_of(self, codes: int, state: Any) -> bool:
        return codes == self.codes and state.absmax is self.scales and state.state2 is self.groups


def record_of(weight: torch.Tensor, state: Any) -> Record | None:
    """Return the record of a weight, kept on its state, or None if the compiled code can't read such a weight."""
    with torch._C.DisableTorchFunctionSubclass():  # Params4bit answers every attribute in Python otherwise: 2 µs each
        if not weight.is_cpu:
            return None
        codes = weight.data_ptr()
        known: Record | None = state.__dict__.get("hub_record")
        if known is not None and known.is_of(codes, state):
            return known
        packed = _pack(weight, codes, state) if _is_plain(weight, state) else None
    if packed is None:
        return None
    state.hub_record = record = Record(codes, state, packed)
    return record


def _is_plain(weight: torch.Tensor, state: Any) -> bool:
    """Whether the codes are in bitsandbytes' own order, whole, and of a matrix."""
    if getattr(state, "packing_format_for_cpu", False) or len(state.shape) != 2 or not _is_block(state.blocksize):
        return False
    pairs = (state.shape[0] * state.shape[1] + 1) // 2
    return weight.is_contiguous() and weight.numel() * weight.element_size() >= pairs and state.shape[1] > 0


def _is_block(size: int) -> bool:
    return size >= LEAST_BLOCK and size & (size - 1) == 0


def _is_array(tensor: Any, dtype: torch.dtype, least: int) -> bool:
    return bool(
        isinstance(tensor, torch.Tensor)
        and tensor.is_cpu
        and tensor.dtype == dtype
        and tensor.is_contiguous()
        and tensor.numel() >= least
    )


def _pack(weight: torch.Tensor, codes: int, state: Any) -> bytes | None:
    rows, columns = state.shape
    blocks = -(-rows * columns // state.blocksize)
    table = torch.as_tensor(state.code, dtype=torch.float32, device="cpu").contiguous()
    if table.numel() != 16:
        return None
    sizes = (state.blocksize.bit_length() - 1, rows, columns)
    if not state.nested:
        if not _is_array(state.absmax, torch.float32, blocks):
            return None
        return _record(codes, (state.absmax.data_ptr(), 0, 0, 0), table, sizes)
    second = state.state2
    if not (
        _is_array(state.absmax, torch.uint8, blocks)
        and _is_block(second.blocksize)
        and _is_array(second.code, torch.float32, 256)
        and _is_array(second.absmax, torch.float32, -(-blocks // second.blocksize))
    ):
        return None
    scales = (0, state.absmax.data_ptr(), second.code.data_ptr(), second.absmax.data_ptr())
    return _record(codes, scales, table, sizes, second.blocksize.bit_length() - 1, float(state.offset))


def _record(
    codes: int,
    scales: tuple[int, int, int, int],
    table: torch.Tensor,
    sizes: tuple[int, int, int],
    group_shift: int = 0,
    offset: float = 0.0,
) -> bytes:
    shift, rows, columns = sizes
    packed: bytes = native.weight(codes, *scales, table.data_ptr(), shift, group_shift, rows, columns, offset)
    return packed
