"""Describe a model in memory as the core describes one on disk, so that both can be compared with a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, apply_renamings

from hub.base.blueprint import ModuleShape
from hub.base.spec import BaseSpec, Block, TensorShape
from hub.errors import HubError
from hub.runtime import dense
from hub.runtime.dtypes import NAMES


def spec_of(base: nn.Module) -> BaseSpec | None:
    """Return what can be known of a base in memory; None if it is no transformers model or of an unknown kind."""
    config = getattr(base, "config", None)
    if config is None:
        return None
    parameters = dict(base.named_parameters())
    packed = {f"{name}.weight": module for name, module in base.named_modules() if dense.is_four_bit(module)}
    shapes = {name: _shape(name, value, packed) for name, value in parameters.items()}

    def read(name: str, start: int, count: int) -> Block | None:
        return _read(parameters.get(name), packed.get(name), start, count)

    try:
        return BaseSpec.from_tensors(config.to_dict(), shapes, read)
    except HubError:
        return None  # without a spec there is no identity to compare; the fit is checked on the modules themselves


def places_of(base: nn.Module) -> BaseSpec:
    """Return the modules and parameters that an adapter of `base` has to fit, by what they are rather than by name."""
    config = getattr(base, "config", None)
    packed = {f"{name}.weight": module for name, module in base.named_modules() if dense.is_four_bit(module)}
    names = getattr(config, "architectures", None) or [type(base).__name__]
    tensors = {name: _shape(name, value, packed) for name, value in base.named_parameters()}
    every = base.named_parameters(remove_duplicate=False)
    return BaseSpec(
        architecture=names[0],
        model_type=getattr(config, "model_type", None),
        config={},
        tensors=tensors,
        modules=dict(_module_shapes(base)),
        rename=_renaming(base),
        # PEFT saves a tied parameter under any of its names, e.g. BERT's decoder.bias.
        tied={name: _shape(name, value, packed) for name, value in every if name not in tensors},
    )


def _module_shapes(base: nn.Module) -> Iterator[tuple[str, ModuleShape]]:
    for name, module in base.named_modules():
        if dense.is_conv(module):
            kernel, groups = tuple(module.kernel_size), int(module.groups)
            yield name, ModuleShape("conv", module.in_channels, module.out_channels, kernel, groups)
        elif dense.is_embedding(module):
            yield name, ModuleShape("embedding", *dense.features(module))
        elif dense.is_linear(module):
            yield name, ModuleShape("conv1d" if dense.is_conv1d(module) else "linear", *dense.features(module))


def _renaming(base: nn.Module) -> Callable[[str], str] | None:
    """Return transformers' own renaming of this architecture's modules, which PEFT applies to adapters, too."""
    if not isinstance(base, PreTrainedModel):
        return None
    steps = [step for step in get_model_conversion_mapping(base) if isinstance(step, WeightRenaming)]

    def rename(module: str) -> str:
        renamed: str = apply_renamings(f"{module}.weight", steps)
        return renamed.removesuffix(".weight")

    return rename


def _shape(name: str, value: torch.Tensor, packed: Mapping[str, nn.Module]) -> TensorShape:
    module: Any = packed.get(name)
    if module is None:
        return TensorShape(tuple(value.shape), NAMES.get(value.dtype, str(value.dtype)))
    state = module.weight.quant_state
    return TensorShape(tuple(state.shape), str(state.quant_type).upper())


def _read(value: torch.Tensor | None, module: Any, start: int, count: int) -> Block | None:
    if value is None or value.is_meta:
        return None
    if module is None:
        flat = value.detach().reshape(-1)[start : start + count].cpu().contiguous()
        return Block(NAMES[value.dtype], flat.view(torch.uint8).numpy().tobytes()) if value.dtype in NAMES else None
    if start % 2 or module.weight.quant_state.quant_type != "nf4":
        return None
    codes = module.weight.detach().reshape(-1).view(torch.uint8)[start // 2 : (start + count + 1) // 2]
    return Block("NF4", codes.cpu().numpy().tobytes())


def ends(base: Any) -> tuple[Any, Any]:
    """Return a model's output head and input embedding, each None where there is none, or not one (CLIP, sound)."""
    return _end(base, "get_output_embeddings"), _end(base, "get_input_embeddings")


def _end(base: Any, getter: str) -> Any:
    find = getattr(base, getter, None)
    try:
        return find() if find else None
    except (NotImplementedError, AttributeError):
        return None  # transformers' way to say that this model has several, or no tokens at all
