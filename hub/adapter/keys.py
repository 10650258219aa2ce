"""What a tensor's name in an adapter file means: which module of the base, and which part of its update.

    base_model.model.<module>.lora_A.weight            (rank, in)       lora_B.weight   (out, rank)
    base_model.model.<module>.lora_B.bias              (out,)           lora_bias
    base_model.model.<module>.lora_embedding_A         (rank, vocab)    lora_embedding_B   (width, rank)
    base_model.model.<module>.lora_magnitude_vector    (out,)           DoRA
    base_model.model.<module>.token_adapter.trainable_tokens_delta     (tokens, width)
    base_model.model.<module>.base_layer.bias, .bias                    bias="lora_only", bias="all"
    base_model.model.<module>.base_layer.weight        a copy of a targeted embedding, which PEFT saves along
    base_model.model.<module>.weight                   modules_to_save
    base_model.model.<module>.original_module.bias     the base's own, which bias="all" saves along: not used
    <module>.lora_A                                    loralib: no prefix, no `.weight`

Other trainers' files (kohya, diffusers) and other methods are refused by what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hub.errors import InvalidAdapter

PREFIX = "base_model.model."

Kind = Literal[
    "lora_A",
    "lora_B",
    "lora_bias",
    "embedding_A",
    "embedding_B",
    "magnitude",
    "trainable_tokens",
    "bias",
    "base_layer",
    "modules_to_save",
    "unused",
]


@dataclass(frozen=True, slots=True, order=True)
class AdapterTensor:
    """One tensor of an adapter file.

    module: dotted name in the base model, e.g. `model.layers.0.self_attn.q_proj`.
    parameter: of `bias`, `base_layer` and `modules_to_save`, the base's parameter that it replaces: `weight`, `bias`.
    """

    name: str
    module: str
    kind: Kind
    parameter: str = ""


_SUFFIXES: Mapping[str, Kind] = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_B.bias": "lora_bias",
    ".lora_embedding_A": "embedding_A",
    ".lora_embedding_B": "embedding_B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".token_adapter.trainable_tokens_delta": "trainable_tokens",
    ".lora_A": "lora_A",
    ".lora_B": "lora_B",
}

_FOREIGN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^lora_(unet|te\d?|prior_unet|transformer)_"), "a kohya (sd-scripts) LoRA for an image model"),
    (re.compile(r"\.lora_(down|up)\.weight$|\.alpha$"), "a kohya or LyCORIS LoRA"),
    (
        re.compile(
            r"^(unet|text_encoder\w*|transformer\.(single_|double_)?(transformer_)?blocks)\.|\.lora(_linear_layer)?\.(down|up)\.weight$|\.processor\."
        ),
        "a diffusers LoRA for an image model",
    ),
    (re.compile(r"\.base_layer\.lora_(embedding_)?[AB]"), "a LoRA on bare parameters (target_parameters)"),
    (re.compile(r"\.(hada_w[12]|lokr_w[12])"), "a LoHa or LoKr adapter"),
    (
        re.compile(r"\.(ia3_l|lora_E|ranknum|oft_|boft_|vera_|hra_|fourierft_|vblora_|lora_diag|lora_scaling)"),
        "an adapter of another PEFT method than LoRA",
    ),
    (re.compile(r"^prompt_embeddings$"), "a prompt-tuning adapter"),
)


def parse_key(name: str) -> AdapterTensor:
    """Return what the tensor `name` is.  Raises InvalidAdapter, which says what else it looks like.

    Without the config, a parameter of the base could be meant by `bias` or by `modules_to_save`: see `parse_keys`.
    """
    if not _is_plain(name):
        _refuse_foreign(name)
    module_path = _without_adapter_name(name.removeprefix(PREFIX))
    for suffix, kind in _SUFFIXES.items():
        if module_path.endswith(suffix):
            module = module_path.removesuffix(suffix)
            if module:
                return AdapterTensor(name, module, kind)
    module, dot, parameter = module_path.rpartition(".")
    if not dot or not name.startswith(PREFIX) or module.startswith("."):
        raise InvalidAdapter(
            f"The tensor {name[:120]!r} is no part of a LoRA adapter: its name should start with {PREFIX!r}. "
            "Save the adapter again with PEFT: model.save_pretrained(folder)."
        )
    if ".original_module." in f"{module}.":
        return AdapterTensor(name, module.replace(".original_module", ""), "unused", parameter)
    if module.endswith(".base_layer"):
        replaced: Kind = "bias" if parameter == "bias" else "base_layer"
        return AdapterTensor(name, module.removesuffix(".base_layer"), replaced, parameter)
    return AdapterTensor(name, module, "modules_to_save", parameter)


_NAMED = re.compile(
    r"\.(modules_to_save)\.[^.]+(?=\.)"
    r"|\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)\.(?!weight$|bias$)[^.]+(?=(?:\.weight|\.bias)?$)"
)


def _without_adapter_name(path: str) -> str:
    """Return a name as PEFT saves it, of one in a raw state dict, e.g. `q_proj.lora_A.default.weight`."""
    found = _NAMED.search(path)
    if found is None:
        return path
    kept = "" if found[1] else f".{found[2]}"
    return path[: found.start()] + kept + path[found.end() :]


def adapter_names(names: Iterable[str]) -> set[str]:
    """Return the adapters' names that a raw state dict has in its keys; none in what PEFT saved."""
    found = (_NAMED.search(name) for name in names)
    return {match[0].rpartition(".")[2] for match in found if match}


def parse_keys(names: Iterable[str], *, bias: str = "none", modules_to_save: Iterable[str] = ()) -> list[AdapterTensor]:
    """Return what every tensor is, in the order of the names, with the config's word on bare parameters.

    bias: the config's; with `all`, `<module>.bias` is a trained bias unless the module is one of `modules_to_save`.
    Raises InvalidAdapter.
    """
    saved = tuple(modules_to_save)
    parsed = _each_once([parse_key(name) for name in names])
    return [_as_bias(tensor) if bias != "none" and _is_bare_bias(tensor, saved) else tensor for tensor in parsed]


def _each_once(parsed: list[AdapterTensor]) -> list[AdapterTensor]:
    """Mark as unused what stands for a tensor that is there by its own name, too.

    With trained biases, PEFT saves those of a whole module three times.
    """
    plain = {_place(tensor) for tensor in parsed if not _NAMED.search(tensor.name)}
    return [
        AdapterTensor(tensor.name, tensor.module, "unused", tensor.parameter)
        if _NAMED.search(tensor.name) and _place(tensor) in plain
        else tensor
        for tensor in parsed
    ]


def _place(tensor: AdapterTensor) -> tuple[str, str, str]:
    return tensor.module, tensor.kind, tensor.parameter


def is_saved_module(module: str, modules_to_save: Iterable[str]) -> bool:
    """Whether `module` is one of `modules_to_save`, or lies in one: its name ends so, behind a dot or not.

    PEFT stores such a module whole (`_set_trainable`: `key.endswith(…)`), and refuses to adapt it as well.
    """
    return any(f"{saved}." in f"{module}." for saved in modules_to_save)


def _is_bare_bias(tensor: AdapterTensor, modules_to_save: tuple[str, ...]) -> bool:
    is_bare = tensor.kind == "modules_to_save" and tensor.parameter == "bias"
    return is_bare and not is_saved_module(tensor.module, modules_to_save)


def _as_bias(tensor: AdapterTensor) -> AdapterTensor:
    return AdapterTensor(tensor.name, tensor.module, "bias", tensor.parameter)


def _is_plain(name: str) -> bool:
    """Whether nothing but a LoRA pair that PEFT saved is called so: nearly every tensor, told at a glance."""
    is_pair = name.endswith((".lora_A.weight", ".lora_B.weight")) and name.startswith(PREFIX)
    return is_pair and ".base_layer." not in name and ".processor." not in name


def _refuse_foreign(name: str) -> None:
    for pattern, what in _FOREIGN:
        if pattern.search(name):
            raise InvalidAdapter(
                f"The tensor {name[:120]!r} shows that this is {what}. lorahub holds LoRA adapters that PEFT saved: "
                "train or convert it with PEFT, then model.save_pretrained(folder)."
            )
