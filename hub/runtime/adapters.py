"""Bring one adapter from a ref to updates in memory, step by step, each with a finished value.

    ref -> manifest -> does it fit? -> files -> head -> does it fit? -> weights -> updates

Nothing of the model changes on the way: a failure at any step leaves it exactly as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hub.runtime.adapter_weights import read_head, read_weights
from hub.runtime.attach import Attachment
from hub.runtime.build import build_updates
from hub.runtime.fit import check_fit
from hub.runtime.loaded import Loaded
from hub.runtime.memory_spec import ends
from hub.runtime.modes import kept_tensors
from hub.runtime.offloaded import computing_device
from hub.runtime.updates import Update

log = logging.getLogger("hub.runtime")


@dataclass(frozen=True)
class Placement:
    """Where adapters live: their dtype and device, and the head that is tied to the embedding, if it is."""

    dtype: torch.dtype
    device: torch.device
    tied_head: str | None


def placement_of(attachment: Attachment) -> Placement:
    """Return where adapters go, in the base's type; on a CPU float32 at least: its small bfloat16 products are slow."""
    base = attachment.modules[""]
    device = computing_device(base)
    dtype = next(value for value in base.parameters() if value.is_floating_point()).dtype
    wide = torch.promote_types(dtype, torch.float32) if device.type == "cpu" else dtype
    return Placement(wide, device, _tied_head(base, attachment))


def _tied_head(base: Any, attachment: Attachment) -> str | None:
    """Return the name of the output head if it shares the input embedding's weight."""
    head, embedding = ends(base)
    if head is None or embedding is None or not _share_weight(base, head, embedding):
        return None
    return next((name for name, module in attachment.modules.items() if module is head), None)


def _share_weight(base: Any, head: Any, embedding: Any) -> bool:
    if head.weight.is_meta:  # offloaded: each module gets a weight of its own while it computes
        return bool(base.config.get_text_config().tie_word_embeddings)
    return head.weight is embedding.weight


@kept_tensors()
def load_adapter(ref: str, folder: Path, attachment: Attachment, placement: Placement, *, is_immutable: bool) -> Loaded:
    """Return the adapter in `folder`, in memory under the name `ref`.

    is_immutable: the folder is a snapshot of the cache, which nobody writes to.
    Raises InvalidAdapter, InvalidSafetensors, Unsupported, Incompatible.
    """
    head = read_head(folder)
    unknown = head.content.config.unknown()
    if unknown:
        log.warning("%s: fields that lorahub does not know change nothing: %s", ref, ", ".join(unknown))
    head = replace(head, content=head.content.placed(attachment.spec.modules, attachment.spec.rename))
    check_fit(head.content, attachment.spec)
    weights = read_weights(head, placement.dtype, placement.device, is_immutable=is_immutable)
    by_name = build_updates(weights, attachment.modules, placement.tied_head)
    updates = {attachment.index(name): update for name, update in by_name.items()}
    return Loaded(ref, head.folder, head.content, updates, _size_bytes(by_name.values()))


def _size_bytes(updates: Iterable[Update]) -> int:
    """Return how much memory these updates keep, each piece counted once however many views there are of it."""
    pieces = {
        storage.data_ptr(): storage.nbytes()
        for update in updates
        for storage in (tensor.untyped_storage() for tensor in update.tensors())
    }
    return sum(pieces.values())
