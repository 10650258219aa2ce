"""Whether the parameters that an adapter replaces are those that the base computes with.

A replaced module computes with parameters of its own when it is called.  Some bases read a parameter without a call
(Mamba its step's bias, DeBERTa its relative embeddings), and would go on with their own.  So the base is probed: as it
runs here, and as a copy that shares everything but has the parameters in their places, whoever reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hub.adapter.content import summarize
from hub.errors import Unsupported
from hub.runtime.attach import Attachment
from hub.runtime.layers import clone_with
from hub.runtime.modes import kept_tensors
from hub.runtime.offloaded import computing_device
from hub.runtime.probe import Inputs, probe_inputs
from hub.runtime.selection import BARE, Choice
from hub.runtime.updates import Replaced, Update

_CLOSE = 1e-3
"""How far the two may be apart, of the largest number: rounding in float32 is far below, and 16 bits are given more."""


@kept_tensors()
def refuse_unread(attachment: Attachment, updates: Mapping[int, Update]) -> None:
    """Raise Unsupported if a parameter that `updates` replaces isn't read by calling its module.

    The modules take updates already.  What was proven once isn't probed again.  A base that can't be probed is refused.
    """
    replaced = {
        index: update
        for index, update in updates.items()
        if isinstance(update, Replaced) and not _is_elsewhere(attachment.modules[attachment.names[index]])
    }
    asked = {(index, path) for index, update in replaced.items() for path in update.values}
    if asked <= attachment.read_by_calls:
        return
    names = sorted(attachment.names[index] for index in replaced)
    try:
        off = _difference(attachment, replaced)
    except Exception as error:  # whatever a base says to inputs that aren't its own
        raise _unread(names, f"it can't be probed: {type(error).__name__}: {error}") from error
    if not off <= _close(attachment.base):
        raise _unread(names, f"a probe is {off:.2g} off")
    attachment.read_by_calls |= asked


def _is_elsewhere(module: nn.Module) -> bool:
    """Whether the module's weights come when it is called and not before: then nobody reads them otherwise."""
    return "_hf_hook" in module.__dict__ and all(value.is_meta for value in module.parameters())


def _difference(attachment: Attachment, replaced: Mapping[int, Replaced]) -> float:
    base: Any = attachment.base
    inputs = probe_inputs(base, None, computing_device(base))
    if inputs is None:
        raise ValueError("the inputs that it takes aren't known")
    alone = Choice({index: Replaced(update.shadow, update.values) for index, update in replaced.items()})
    ours = _answer(base, inputs, attachment, alone)
    wanted = _answer(clone_with(base, _in_place(attachment, replaced)), inputs, attachment, BARE)
    return ((ours - wanted).abs().max() / wanted.abs().max()).item()


def _in_place(attachment: Attachment, replaced: Mapping[int, Replaced]) -> dict[str, torch.Tensor]:
    """Return what is replaced by its full name, in the type that the base has it in."""
    return {
        f"{attachment.names[index]}.{path}": value.to(update.shadow.get_parameter(path).dtype)
        for index, update in replaced.items()
        for path, value in update.values.items()
    }


def _answer(base: Any, inputs: Inputs, attachment: Attachment, choice: Choice) -> torch.Tensor:
    with attachment.selection.override(choice, is_call=True), torch.random.fork_rng():
        torch.manual_seed(0)  # dropout, in a model that trains
        output = base(**inputs)
    return next(value for value in output.values() if isinstance(value, torch.Tensor)).float()


def _close(base: Any) -> float:
    is_exact = next(base.parameters()).dtype in (torch.float32, torch.float64)
    return _CLOSE if is_exact else 50 * _CLOSE


def _unread(names: list[str], why: str) -> Unsupported:
    return Unsupported(
        f"The adapter replaces parameters of {summarize(names)}, and this base doesn't read them by calling those "
        f"modules ({why}). Use PEFT: PeftModel.from_pretrained(base, folder)."
    )
