"""Whether a base computes in what its adapter was trained in: 4 bits are another function than the dense weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from hub.adapter.provenance import Provenance
from hub.runtime import dense

log = logging.getLogger("hub.runtime")


def say_if_trained_dense(ref: str, folder: Path, modules: Iterable[nn.Module]) -> None:
    """Log a warning if training wrote down that the base was dense, and the base here is 4-bit.

    Of an adapter that doesn't say how it was trained, nothing is known and nothing said.
    """
    record = Provenance.read(folder)
    if record is None or "quantize" not in record.training or record.training["quantize"] is not None:
        return
    if any(dense.is_four_bit(module) for module in modules):
        log.warning(
            "%s was trained on the dense base, and this one is 4-bit, so its answers are not quite those of training. "
            "hub.load(…, quantize=None) gives those.",
            ref,
        )
