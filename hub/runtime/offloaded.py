"""Bases whose weights are elsewhere (on disk, in main memory) but while a module computes: accelerate's offloading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def weights_here(module: nn.Module) -> Iterator[None]:
    """Have the weights of `module` itself in memory while the block runs.  What is taken of them stays."""
    absent = any(value is not None and value.is_meta for value in module._parameters.values())
    if not absent or "_hf_hook" not in module.__dict__:
        yield
        return
    from accelerate.utils import align_module_device

    with align_module_device(module):
        yield


def bias_here(module: nn.Module) -> torch.Tensor | None:
    """Return the module's bias, within `weights_here`, as one that is kept when the weights leave again."""
    bias = module._parameters.get("bias")
    return bias.detach().clone() if bias is not None and "_hf_hook" in module.__dict__ else bias


def computing_device(base: nn.Module) -> torch.device:
    """Return where `base` computes: where its weights are, or are brought to."""
    here = next(value for value in base.parameters() if value.is_floating_point()).device
    if here.type != "meta":
        return here
    for module in base.modules():
        hook: Any = module.__dict__.get("_hf_hook")
        device = getattr(hook, "execution_device", None)
        if device is not None:
            return torch.device(device)
    return here
