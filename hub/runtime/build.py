"""Turn an adapter's tensors into updates, one per module, checked against the modules that they are for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from hub.adapter.config import LoraConfig
from hub.adapter.content import summarize, token_indices_for
from hub.adapter.keys import AdapterTensor
from hub.errors import Incompatible, Unsupported
from hub.runtime import dense
from hub.runtime.adapter_weights import AdapterWeights
from hub.runtime.convolution import ConvLowRank
from hub.runtime.layers import clone_with
from hub.runtime.offloaded import weights_here
from hub.runtime.updates import Dora, EmbeddingLowRank, LowRank, Replaced, TokenLogits, Tokens, Update

Parts = dict[str, torch.Tensor]
"""kind -> tensor, at one module; parameters of the base are keyed `bias` or `weight`."""


def build_updates(
    weights: AdapterWeights, modules: Mapping[str, nn.Module], head: str | None = None
) -> dict[str, Update]:
    """Return module name -> update.

    modules: every module of the base by name.  head: the name of the output head, if it is tied to the embedding.
    Raises Incompatible for a shape that doesn't fit, Unsupported for a combination that isn't computed.
    """
    parts = _parts_by_module(weights, modules)
    updates: dict[str, Update] = {}
    for name, found in parts.items():
        updates[name] = _build(name, modules[name], found, weights.config)
    _tie_tokens(updates, modules, head)
    return updates


def _parts_by_module(weights: AdapterWeights, modules: Mapping[str, nn.Module]) -> dict[str, Parts]:
    """Group the tensors by the module that computes with them."""
    saved = saved_modules(weights.config, weights.content.parts, modules)
    grouped: dict[str, Parts] = defaultdict(dict)
    for _, part in weights.content.used():
        tensor = weights.tensors[part.name]
        if part.kind == "modules_to_save":
            home = next((name for name in saved if f"{part.module}.".startswith(f"{name}.")), part.module)
            path = f"{part.module}.{part.parameter}".removeprefix(f"{home}.")
            grouped[home][f"={path}"] = tensor
        elif part.kind in {"bias", "base_layer"}:
            grouped[part.module][f"{'' if part.kind == 'bias' else 'base_layer.'}{part.parameter}"] = tensor
        else:
            grouped[part.module][part.kind] = tensor
    return grouped


def saved_modules(
    config: LoraConfig, parts: Sequence[AdapterTensor], modules: Mapping[str, nn.Module]
) -> tuple[str, ...]:
    """Return the modules of the base that the adapter stores whole, the outermost first."""
    stored = {part.module for part in parts if part.kind == "modules_to_save"}
    homes = (name for name in modules if name and name.endswith(config.modules_to_save))
    return tuple(name for name in homes if any(f"{module}.".startswith(f"{name}.") for module in stored))


def _build(name: str, module: nn.Module, parts: Parts, config: LoraConfig) -> Update:
    whole = {key[1:]: value for key, value in parts.items() if key.startswith("=")}
    if "trainable_tokens" in parts:
        _refuse_with_tokens(name, parts)
        return _tokens(name, module, parts["trainable_tokens"], config)
    if whole:
        _refuse_partly_saved(name, module, parts, whole)
        return _replaced(name, module, whole, None)
    update: Update | None = None
    if "lora_A" in parts:
        update = _linear(name, module, parts, config)
    elif "embedding_A" in parts:
        update = _embedding(name, module, parts, config)
    if "bias" in parts:
        update = _replaced(name, module, {"bias": parts["bias"]}, update)
    if update is None:
        raise Incompatible(f"{name} has weights that make no update: {', '.join(parts)}.")
    return update


def _linear(name: str, module: nn.Module, parts: Parts, config: LoraConfig) -> Update:
    if dense.is_conv(module):
        return _convolution(name, module, parts, config)
    if not dense.is_linear(module):
        raise _wrong_kind(name, module, "a linear layer")
    wide, narrow = dense.features(module)
    a, b = parts["lora_A"], parts["lora_B"]
    _check_shape(name, "lora_A", a, (a.shape[0], wide))
    _check_shape(name, "lora_B", b, (narrow, a.shape[0]))
    scaling = config.scaling_for(name)
    bias = parts.get("lora_bias")
    if bias is not None:
        _check_shape(name, "lora_B.bias", bias, (narrow,))
        bias = bias.mul_(scaling)
    low_rank = LowRank(a.t(), b.t(), bias, scaling)
    if "magnitude" not in parts:
        return low_rank
    gain = _dora_gain(name, module, low_rank, parts["magnitude"])
    low_rank.b_t.mul_(gain)
    return Dora(low_rank, gain)


def _convolution(name: str, module: nn.Module, parts: Parts, config: LoraConfig) -> Update:
    if "magnitude" in parts:
        raise Unsupported(f"{name} is a {type(module).__name__}, and DoRA of a convolution is not computed. Use PEFT.")
    a, b, scaling = parts["lora_A"], parts["lora_B"], config.scaling_for(name)
    channels, kernel, groups = (getattr(module, key) for key in ("in_channels", "kernel_size", "groups"))
    _check_shape(name, "lora_A", a, (a.shape[0], channels, *kernel))
    _check_shape(name, "lora_B", b, (module.out_channels, a.shape[0] // groups, *[1] * len(kernel)))  # type: ignore[arg-type]
    bias = parts.get("lora_bias")
    return ConvLowRank(a, b, None if bias is None else bias.mul_(scaling), scaling)


def _embedding(name: str, module: nn.Module, parts: Parts, config: LoraConfig) -> Update:
    if not dense.is_embedding(module):
        raise _wrong_kind(name, module, "an embedding")
    vocabulary, width = dense.features(module)
    a, b = parts["embedding_A"], parts["embedding_B"]
    _check_shape(name, "lora_embedding_A", a, (a.shape[0], vocabulary))
    _check_shape(name, "lora_embedding_B", b, (width, a.shape[0]))
    _check_copy_of_base(name, module, parts)
    scaling, gain = config.scaling_for(name), None
    if "magnitude" in parts:
        gain = _dora_gain(name, module, LowRank(a.t(), b.t(), None, scaling), parts["magnitude"])
        b.t().mul_(gain)
    return EmbeddingLowRank(a, b.t(), scaling * dense.embed_scale(module), gain)


def _dora_gain(name: str, module: nn.Module, low_rank: LowRank, magnitude: torch.Tensor) -> torch.Tensor:
    """Return magnitude / ||W + scaling * B A||, row by row.  Peak memory: one dense layer."""
    weight = dense.dense_weight(module)
    magnitude = magnitude.reshape(-1)
    _check_shape(name, "lora_magnitude_vector", magnitude, (weight.shape[0],))
    a, b = low_rank.factors()
    adapted = torch.addmm(weight, b.float(), a.float())
    return (magnitude.float() / torch.linalg.norm(adapted, dim=1)).to(magnitude.dtype)


def _tokens(name: str, module: nn.Module, rows: torch.Tensor, config: LoraConfig) -> Update:
    if not dense.is_embedding(module):
        raise _wrong_kind(name, module, "an embedding")
    vocabulary, width = dense.features(module)
    ids = token_indices_for(config, name)
    if ids is None or max(ids) >= vocabulary or len(set(ids)) != len(ids):
        raise Incompatible(f"{name}: trainable_token_indices don't fit a vocabulary of {vocabulary:,} tokens.")
    _check_shape(name, "trainable_tokens_delta", rows, (len(ids), width))
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Tokens(
        torch.tensor([ids[i] for i in order], device=rows.device),
        rows[torch.tensor(order, device=rows.device)] * dense.embed_scale(module),
    )


def _tie_tokens(updates: dict[str, Update], modules: Mapping[str, nn.Module], head: str | None) -> None:
    """Give the trained tokens of an embedding to every module that shares its weight, as PEFT does.

    Those are the output head, and the encoder's and decoder's own embeddings (T5, BART).
    """
    for name, update in list(updates.items()):
        if not isinstance(update, Tokens):
            continue
        for other in _sharing(name, modules, head):
            if other in updates:
                raise Unsupported(
                    f"{other} is tied to {name}, which has trained tokens, and is adapted itself: that is not "
                    "computed. Use PEFT: PeftModel.from_pretrained(base, folder)."
                )
            rows = update.rows / dense.embed_scale(modules[name])
            is_head = not dense.is_embedding(modules[other])
            updates[other] = (
                TokenLogits(update.ids, rows)
                if is_head
                else Tokens(update.ids, rows * dense.embed_scale(modules[other]))
            )


def _sharing(name: str, modules: Mapping[str, nn.Module], head: str | None) -> list[str]:
    """Return the other modules with the weight of an embedding; none where the config says that nothing is tied."""
    if getattr(getattr(modules[""], "config", None), "tie_word_embeddings", True) is False:
        return []
    weight = modules[name].weight
    found = [
        other
        for other, module in modules.items()
        if module is not modules[name]
        and (dense.is_embedding(module) or dense.is_linear(module))
        and module._parameters.get("weight") is weight
    ]
    is_offloaded_head = head is not None and head not in found and modules[head].weight.is_meta
    return [*found, head] if is_offloaded_head and head is not None else found


def _replaced(name: str, module: nn.Module, values: Mapping[str, torch.Tensor], then: Update | None) -> Update:
    state = dict(module.named_parameters())
    converted: dict[str, torch.Tensor] = {}
    for path, value in values.items():
        current = state.get(path)
        if current is None:
            raise Incompatible(f"{name} of this base has no {path}, which the adapter replaces.")
        _check_shape(name, path, value, tuple(current.shape))
        converted[path] = value.to(current.dtype)
    return Replaced(clone_with(module, converted), dict(values), then)


def _refuse_partly_saved(name: str, module: nn.Module, parts: Parts, whole: Mapping[str, torch.Tensor]) -> None:
    if len(whole) != len(parts):
        raise Unsupported(f"{name} is stored whole and adapted at once, which is not computed. Use PEFT for it.")
    if any(dense.is_quantized(child) for child in module.modules()):
        raise Unsupported(
            f"{name} is stored whole, but it is quantized in this base. Load the base with quantize=None, "
            "or keep that module out of quantization."
        )
    missing = sorted({key for key, _ in module.named_parameters()} - set(whole))
    if missing:
        raise Incompatible(f"{name} is stored whole, but {summarize(missing)} is missing from it.")


def _refuse_with_tokens(name: str, parts: Parts) -> None:
    if len(parts) > 1:
        raise Unsupported(f"{name} has trained tokens and another update, which is not computed. Use PEFT for it.")


def _check_copy_of_base(name: str, module: nn.Module, parts: Parts) -> None:
    """PEFT saves a targeted embedding along; it must be the one that is here."""
    copied = parts.get("base_layer.weight")
    if copied is None:
        return
    with weights_here(module):
        weight: torch.Tensor = module.weight  # type: ignore[assignment]
        is_same = copied.shape == weight.shape and _is_same_weight(weight.detach(), copied)
    if not is_same:
        raise Incompatible(
            f"The adapter carries its base's {name}, and this base has another one: it was trained on another model, "
            "or with a resized vocabulary. Load it on the model that it was trained on."
        )


def _is_same_weight(weight: torch.Tensor, original: torch.Tensor) -> bool:
    """Whether one is the other, perhaps rounded to 16 bits when base or adapter was stored, and widened again."""
    types = (weight.dtype, torch.float16, torch.bfloat16)
    return any(torch.equal(weight.to(dtype), original.to(dtype)) for dtype in types)


def _check_shape(name: str, part: str, tensor: torch.Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise Incompatible(
            f"{name}: {part} has the shape {list(tensor.shape)}, and this base needs {list(expected)}. "
            "The adapter was trained on another model."
        )


def _wrong_kind(name: str, module: nn.Module, wanted: str) -> Incompatible:
    return Incompatible(f"{name} is a {type(module).__name__} here, and the adapter's weights are for {wanted}.")
