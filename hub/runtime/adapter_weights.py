"""Bring one adapter's file into memory in one piece: every tensor is a view of it.

A file of the content-addressed cache is mapped: it never changes, and processes share its pages.  Any other file is
read: a trainer that writes its folder again must not change, or crash, a model that runs.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from hub.adapter.config import LoraConfig
from hub.adapter.content import AdapterContent, check_content, summarize
from hub.errors import InvalidAdapter, InvalidSafetensors, Unsupported
from hub.formats.readable import read_at
from hub.formats.safetensors_header import Header, TensorInfo, parse_header
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE, TensorEntry
from hub.runtime.dtypes import DTYPES


@dataclass(frozen=True)
class AdapterWeights:
    """An adapter in memory.  tensors: name in the file -> weights, in `dtype` on `device`, as the file says them."""

    content: AdapterContent
    tensors: Mapping[str, torch.Tensor]

    @property
    def config(self) -> LoraConfig:
        return self.content.config


@dataclass(frozen=True)
class AdapterHead:
    """What is known of an adapter before its weights are read."""

    folder: Path
    content: AdapterContent
    header: Header
    header_bytes: bytes


def read_head(folder: Path) -> AdapterHead:
    """Read config and header of the adapter in `folder`, and check them against each other.

    Raises InvalidAdapter, InvalidSafetensors, or Unsupported for a field that we don't compute exactly.
    """
    config = _read_config(folder)
    refuse_unsupported(config, folder)
    with _open_weights(folder) as file:
        header = _read_header(file, folder)
        header_bytes = read_at(file.fileno(), header.data_start, 0)
    content = AdapterContent.build(config, (_entry(tensor) for tensor in header.tensors.values()))
    check_content(content)
    return AdapterHead(folder, content, header, header_bytes)


def refuse_unsupported(config: LoraConfig, folder: Path | str) -> None:
    """Raise Unsupported, which names every field that changes the result in a way that we don't compute exactly."""
    unsupported = config.unsupported()
    if unsupported:
        reasons = summarize([f"{field.name}: {field.why}" for field in unsupported])
        raise Unsupported(
            f"This adapter can't be run exactly: {reasons}. "
            f"Use PEFT: PeftModel.from_pretrained(base, {str(folder)!r}).",
            fields=[field.name for field in unsupported],
        )


def read_weights(
    head: AdapterHead, dtype: torch.dtype, device: torch.device, *, is_immutable: bool = False
) -> AdapterWeights:
    """Return the weights as `dtype` on `device`.

    is_immutable: nobody writes to the file, so it may be mapped.
    Raises InvalidAdapter for NaN or Inf, InvalidSafetensors if the file isn't the one of `head` any more.
    """
    with _open_weights(head.folder) as file:
        # The file that is open now may be another one than `head` saw.
        if read_at(file.fileno(), head.header.data_start, 0) != head.header_bytes:
            raise InvalidSafetensors(f"{WEIGHTS_FILE} in {head.folder} changed while it was read. Try again.")
        raw = _map_data(file, head.header) if is_immutable and device.type == "cpu" else None
        if raw is None:
            raw = _read_data(file, head.header, pin=device.type == "cuda")
    tensors = _views(raw, head.header, dtype, device)
    _check_finite(tensors)
    return AdapterWeights(head.content, tensors)


def _read_config(folder: Path) -> LoraConfig:
    try:
        data = (folder / CONFIG_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidAdapter(
            f"{folder} has no {CONFIG_FILE}, so it is no adapter. Save one with PEFT: model.save_pretrained(folder)."
        ) from error
    return LoraConfig.parse(data)


def _open_weights(folder: Path) -> FileIO:
    try:
        return FileIO(folder / WEIGHTS_FILE)
    except FileNotFoundError as error:
        pickled = folder / "adapter_model.bin"
        step = (
            "Its weights are pickled (adapter_model.bin), which is never read: load it with PEFT and save it again"
            if pickled.exists()
            else "Save the adapter again with PEFT"
        )
        raise InvalidAdapter(f"{folder} has no {WEIGHTS_FILE}. {step}: model.save_pretrained(folder).") from error


def _read_header(file: FileIO, folder: Path) -> Header:
    def read(offset: int, size: int) -> bytes:
        return read_at(file.fileno(), size, offset)

    try:
        return parse_header(read, os.fstat(file.fileno()).st_size)
    except InvalidSafetensors as error:
        raise InvalidSafetensors(f"{folder / WEIGHTS_FILE}: {error.message}") from error


def _read_data(file: FileIO, header: Header, *, pin: bool) -> torch.Tensor:
    """Return the file's data part as bytes, in pinned memory if it goes to a GPU."""
    size = max((tensor.end for tensor in header.tensors.values()), default=header.data_start) - header.data_start
    raw = torch.empty(size, dtype=torch.uint8, pin_memory=pin)
    array: Any = raw.numpy()
    view = memoryview(array)
    file.seek(header.data_start)
    done = 0
    while done < size:
        count = file.readinto(view[done:])
        if not count:
            raise InvalidSafetensors(f"{WEIGHTS_FILE} ended after {done:,} of {size:,} bytes. Fetch it again.")
        done += count
    return raw


def _map_data(file: FileIO, header: Header) -> torch.Tensor | None:
    """Return the file's data part, mapped; writing to it makes a private copy of a page.  None if it isn't aligned."""
    if header.data_start % 8 or not header.tensors:
        return None
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(mapped, dtype=torch.uint8, offset=header.data_start)


def _views(raw: torch.Tensor, header: Header, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
    infos = list(header.tensors.values())
    kinds = {info.dtype for info in infos}
    if len(kinds) == 1:
        source = DTYPES[kinds.pop()]
        flat = _move(raw.view(source), dtype, device)
        return {info.name: _view(flat, info, header.data_start, source.itemsize) for info in infos}
    return {info.name: _move(_slice(raw, info, header.data_start), dtype, device) for info in infos}


def _view(flat: torch.Tensor, info: TensorInfo, data_start: int, itemsize: int) -> torch.Tensor:
    shape = info.shape
    start = (info.start - data_start) // itemsize
    if len(shape) == 2:  # nearly all of them; as_strided is the cheapest view
        return flat.as_strided(shape, (shape[1], 1), start)
    return flat[start : start + info.numel].view(shape)


def _slice(raw: torch.Tensor, info: TensorInfo, data_start: int) -> torch.Tensor:
    # A copy: a tensor behind one of another type need not lie on its own type's boundary.
    part = raw[info.start - data_start : info.end - data_start].clone()
    return part.view(DTYPES[info.dtype]).view(info.shape)


def _move(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type != "cuda":
        return tensor.to(device=device, dtype=dtype)
    with torch.cuda.stream(copy_stream(device)):
        moved = tensor.to(device, non_blocking=True).to(dtype)
    torch.cuda.current_stream(device).wait_stream(copy_stream(device))
    moved.record_stream(torch.cuda.current_stream(device))
    return moved


_STREAMS: dict[torch.device, torch.cuda.Stream] = {}


def copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the side stream that adapters are copied on, so that a load doesn't wait for running kernels."""
    if device not in _STREAMS:
        _STREAMS[device] = torch.cuda.Stream(device)
    return _STREAMS[device]


def _check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    whole = _whole_storage(tensors)
    if whole is not None and _is_finite(whole):
        return
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise InvalidAdapter(
            f"{len(bad)} of {len(tensors)} tensors have NaN or Inf: {summarize(bad)}. The training run diverged; "
            "publish a checkpoint from before that.",
            tensors=bad[:20],
        )


def _whole_storage(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Return all tensors as one, if they are views of one piece of memory."""
    if not tensors:
        return None
    in_order = sorted(tensors.values(), key=lambda tensor: tensor.data_ptr())
    first, last = in_order[0], in_order[-1]
    count = sum(tensor.numel() for tensor in in_order)
    spans = (last.data_ptr() - first.data_ptr()) // first.element_size() + last.numel()
    if spans != count or last.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
        return None
    return first.as_strided((count,), (1,), first.storage_offset())


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)  # one pass, and NaN comes through
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _entry(tensor: TensorInfo) -> TensorEntry:
    return TensorEntry(tensor.name, tensor.dtype, tensor.shape)
