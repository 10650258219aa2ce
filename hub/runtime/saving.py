"""Write a merged model as a folder that transformers opens, with the numbers that run here."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hub.errors import Unsupported
from hub.formats.atomic_files import check_new_folder, new_folder
from hub.runtime import dense, four_bit
from hub.runtime.memory_spec import ends
from hub.runtime.offloaded import weights_here
from hub.runtime.selection import Choice
from hub.runtime.updates import Replaced, Substitute, Update

MAX_SHARD = "4GB"


def save_merged(
    base: Any,
    choice: Choice,
    modules: Mapping[str, nn.Module],
    names: Mapping[int, str],
    path: Path,
    tokenizer: Any | None,
) -> Path:
    """Write the model that `choice`, a merged one, computes.

    A dense model goes as bfloat16 where that loses nothing, else as it is.  A 4-bit one goes as it runs: transformers
    takes the types of such a folder from its file, whatever `dtype` asks for.
    The folder appears whole or not at all.  Raises InvalidRequest if `path` is there and not empty.
    """
    check_new_folder(path)
    by_name = {names[index]: update for index, update in choice.updates.items()}
    state, ties = _state(by_name, modules)
    is_four_bit = any(".quant_state." in name for name in state)
    if not is_four_bit:
        state = {name: narrow(tensor) for name, tensor in state.items()}
    if not ties:
        _untie(state, base, modules)
    with new_folder(path) as aside:
        write_model(base, state, aside, is_four_bit=is_four_bit, ties=ties)
        if tokenizer is not None:
            tokenizer.save_pretrained(aside)
    return path


def bare_state(base: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a base as it is, tied ones once, 4-bit ones with their statistics."""
    return _state({}, dict(base.named_modules()))[0]


def write_model(
    base: Any, state: dict[str, torch.Tensor], folder: Path, *, is_four_bit: bool, ties: bool = True
) -> None:
    """Write config and weights of a model whose tensors are `state`."""
    from huggingface_hub import save_torch_state_dict

    whole = {name: _own_storage(tensor) for name, tensor in state.items()}
    save_torch_state_dict(whole, folder, max_shard_size=MAX_SHARD, metadata={"format": "pt"})
    config = copy.deepcopy(base.config)
    if not is_four_bit and hasattr(config, "quantization_config"):
        del config.quantization_config
    if not ties:
        config.tie_word_embeddings = False
    types = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    config.dtype = types.pop() if len(types) == 1 else torch.float32
    config.architectures = [type(base).__name__]
    config.save_pretrained(folder)
    if getattr(base, "generation_config", None) is not None:
        base.generation_config.save_pretrained(folder)


def _state(updates: Mapping[str, Update], modules: Mapping[str, nn.Module]) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the state dict, and whether the output head is still tied to the embedding."""
    seen: dict[int, torch.Tensor] = {}
    state: dict[str, torch.Tensor] = {}
    ties = True
    for name, module in modules.items():
        with weights_here(module):
            own = list(_parameters(name, module, updates.get(name), updates))
        for path, value in own:
            source = _source(module, path)
            if source is not None and id(source) in seen:
                if torch.equal(seen[id(source)], value):
                    continue
                ties = False
            if source is not None:
                seen[id(source)] = value
            state[f"{name}.{path}" if name else path] = value
    return state, ties


def _untie(state: dict[str, torch.Tensor], base: Any, modules: Mapping[str, nn.Module]) -> None:
    """Tied modules that have become different are written one by one, none as the other's copy."""
    for module in ends(base):
        if module is None:
            continue
        name = next(found for found, candidate in modules.items() if candidate is module)
        state.setdefault(f"{name}.weight", narrow(module.weight.detach()))


def _source(module: nn.Module, path: str) -> torch.Tensor | None:
    return module._parameters.get(path)


def _parameters(
    name: str, module: nn.Module, update: Update | None, updates: Mapping[str, Update]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of one module's own, as the merged model has them."""
    if isinstance(update, Substitute):
        yield from _substituted(name, module, update)
        return
    own: dict[str, Any] = dict(_replaced_parameters(name, updates)) if updates else {}
    for path, value in module._parameters.items():
        if value is None:
            continue
        chosen = own.get(path, value)
        if dense.is_four_bit(module) and path == "weight":
            state: Any = value
            yield from _packed(state.detach().as_subclass(torch.Tensor), state.quant_state)
        else:
            yield path, chosen.detach()
    for path, buffer in module._buffers.items():
        if buffer is not None and path not in module._non_persistent_buffers_set:
            yield path, buffer.detach()


def _replaced_parameters(name: str, updates: Mapping[str, Update]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what a replaced module, this one or one around it, has instead of the base's parameters."""
    for home, update in updates.items():
        if isinstance(update, Replaced) and f"{name}.".startswith(f"{home}."):
            inner = update.shadow.get_submodule(name.removeprefix(home).removeprefix("."))
            for path, value in inner._parameters.items():
                if value is not None:
                    yield path, value


def _substituted(name: str, module: nn.Module, update: Substitute) -> Iterator[tuple[str, torch.Tensor]]:
    if update.bias is not None and module._parameters.get("bias") is None:
        raise Unsupported(
            f"{name} has no bias in this architecture, and the merged adapter gives it one (lora_bias): such a model "
            "can't be saved as a plain one. Keep the adapter apart, or train without lora_bias."
        )
    if isinstance(update.weight, four_bit.FourBitWeight):
        yield from _packed(update.weight.codes, update.weight.state)
    else:
        is_turned = dense.is_conv1d(module) or _was_conv1d(module)
        yield "weight", update.weight.t().contiguous() if is_turned else update.weight
    if update.bias is not None:
        yield "bias", update.bias.detach()


def _was_conv1d(module: nn.Module) -> bool:
    return getattr(getattr(module, "source_cls", None), "__name__", "") == "Conv1D"


def _packed(codes: torch.Tensor, state: Any) -> Iterator[tuple[str, torch.Tensor]]:
    yield "weight", codes
    for name, value in state.as_dict(packed=True).items():
        yield f"weight.{name}", value.detach()


def _own_storage(value: torch.Tensor) -> torch.Tensor:
    """Return the tensor as one that shares its memory with nothing: an adapter's are views of its whole file."""
    is_view = value.untyped_storage().nbytes() != value.numel() * value.element_size()
    return value.clone(memory_format=torch.contiguous_format) if is_view else value.contiguous()


def narrow(value: torch.Tensor) -> torch.Tensor:
    """Return the tensor as bfloat16 if that loses nothing."""
    if value.dtype != torch.float32:
        return value
    narrow = value.to(torch.bfloat16)
    return narrow if torch.equal(narrow.float(), value) else value
