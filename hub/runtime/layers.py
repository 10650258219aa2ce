"""Modules of the base that can take updates: each is adapted once, in place, and keeps its name, weights and state.

Adapting gives a module a subclass of its own class.  So `isinstance` checks, `state_dict` names, hooks and
`save_pretrained` of the base go on as before, and no call passes through a wrapper.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import nn

from hub.runtime import four_bit
from hub.runtime.selection import Selection


class Adapted:
    """Mixed into a module's class: computes the chosen update, or the bare base.

    hub_index: the key of this module's update in a choice.  hub_selection: shared by all modules of one model.
    """

    hub_index: int
    hub_selection: Selection
    hub_slots: Any = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # what has no slots takes no updates there
            return self.bare(*args, **kwargs) if self.hub_slots is None else self.hub_slots.run(self, *args, **kwargs)
        update = self.hub_selection.update_at(self.hub_index)
        if update is None:
            return self.bare(*args, **kwargs)
        return update.run(self, *args, **kwargs)

    def bare(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the base's own module computes."""
        original: Any = super()
        return original.forward(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The class is made when a module is adapted, so a pickle names the one that it was made of.
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _revive, (type(self).hub_original,), state  # type: ignore[attr-defined]


class AdaptedFourBit(Adapted):
    """The same for a 4-bit layer, whose own product is computed by `four_bit.product`."""

    def bare(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            compilable: torch.Tensor = super().bare(x)
            return compilable
        parameters = self._parameters  # type: ignore[attr-defined]
        weight = parameters["weight"]
        return four_bit.product(x, weight, weight.quant_state, parameters["bias"], self.compute_dtype)  # type: ignore[attr-defined]


@cache
def _adapted_class(original: Any) -> Any:
    """original: a module's class.  Returns the subclass that takes updates, the same one every time."""
    mixin = AdaptedFourBit if issubclass(original, four_bit.Linear4bit) else Adapted
    name = f"Adapted{original.__name__}"
    return type(name, (mixin, original), {"__module__": __name__, "hub_original": original})


def _revive(original: Any) -> Any:
    adapted = _adapted_class(original)
    return adapted.__new__(adapted)


def adapt(module: nn.Module, index: int, selection: Selection) -> None:
    """Let `module` take updates under `index`.  A module that already does is left as it is."""
    if isinstance(module, Adapted):
        return
    original: Any = type(module)
    adapted = _adapted_class(original)
    module.__dict__["hub_index"], module.__dict__["hub_selection"] = index, selection
    module.__class__ = adapted
    if "_old_forward" in module.__dict__:  # accelerate's hook calls the forward that it found when it was hung in
        module.__dict__["_old_forward"] = MethodType(adapted.forward, module)


def restore(module: nn.Module) -> None:
    """Give `module` its own class back."""
    if isinstance(module, Adapted):
        adapted: Any = type(module)
        original: Any = adapted.hub_original
        module.__class__ = original
        if "_old_forward" in module.__dict__:
            module.__dict__["_old_forward"] = MethodType(original.forward, module)
        for name in ("hub_index", "hub_selection", "hub_slots"):
            module.__dict__.pop(name, None)


def clone_with(module: nn.Module, replaced: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a module that shares everything with `module` but the named parameters.

    replaced: parameter name -> value; a dotted name reaches into a submodule, which is cloned along.
    """
    clone = module.__class__.__new__(module.__class__)
    hooks = {"forward", "_old_forward", "_hf_hook"}
    clone.__dict__.update({name: value for name, value in module.__dict__.items() if name not in hooks})
    for table in ("_parameters", "_buffers", "_modules"):
        clone.__dict__[table] = dict(module.__dict__[table])
    restore(clone)
    own, inner = _by_child(replaced)
    for name, value in own.items():
        clone._parameters[name] = nn.Parameter(value, requires_grad=False)
    for child, values in inner.items():
        clone._modules[child] = clone_with(module._modules[child], values)  # type: ignore[arg-type]
    return clone


def follow(clone: nn.Module, module: nn.Module, replaced: Mapping[str, torch.Tensor]) -> None:
    """Let a clone share what `module` holds now, and have what is replaced in the types that `module` has now."""
    own, inner = _by_child(replaced)
    for name, value in module._parameters.items():
        if name not in own:
            clone._parameters[name] = value
        elif value is not None and not _is_alike(clone._parameters[name], value):
            device = own[name].device if value.is_meta else value.device
            clone._parameters[name] = nn.Parameter(own[name].to(device, value.dtype), requires_grad=False)
    clone._buffers.update(module._buffers)
    for child, values in inner.items():
        follow(clone._modules[child], module._modules[child], values)  # type: ignore[arg-type]


def _is_alike(mine: torch.Tensor | None, theirs: torch.Tensor) -> bool:
    return mine is not None and mine.dtype == theirs.dtype and (theirs.is_meta or mine.device == theirs.device)


Values = dict[str, torch.Tensor]


def _by_child(replaced: Mapping[str, torch.Tensor]) -> tuple[Values, dict[str, Values]]:
    """Return the parameters of the module itself, and those of each child by name."""
    own: Values = {}
    inner: dict[str, Values] = {}
    for name, value in replaced.items():
        child, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(child, {})[rest] = value
        else:
            own[name] = value
    return own, inner
