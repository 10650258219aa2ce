"""What each field of `adapter_config.json` means for us: computed, ignored, refused, or never published.

Read from PEFT 0.21.  A field that changes the result, or the tensors that are needed, is either computed exactly or
refused by name.  A field that only places, initialises or describes is ignored: the tensors are the truth.  So is one
that nobody knows, as PEFT does, and with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class UnsupportedField:
    """A field that is set to something we refuse, and why."""

    name: str
    why: str


COMPUTED = frozenset(
    {
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "use_dora",
        "bias",
        "lora_bias",
        "fan_in_fan_out",
        "modules_to_save",
        "trainable_token_indices",
    }
)
PLACEMENT = frozenset({"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"})
TRAINING = frozenset(
    {
        "lora_dropout",
        "init_lora_weights",  # some of its values change the base: they are looked at apart
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "velora_config",
    }
)
PLUMBING = frozenset(
    {
        "peft_type",
        "task_type",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "runtime_config",
        "auto_mapping",
        "auto_map",
        "megatron_core",
        "merge_weights",
        "qalora_group_size",  # means nothing without use_qalora
    }
)
_KNOWN = COMPUTED | PLACEMENT | TRAINING | PLUMBING

REFUSED: Mapping[str, str] = {
    "layer_replication": "it builds a deeper base out of copies of its layers",
    "target_parameters": "it adapts bare parameters rather than modules",
    "ensure_weight_tying": "it ties the adapters of the embedding and the output layer together",
    "alora_invocation_tokens": "Activated LoRA applies to some tokens of a prompt only",
    "use_qalora": "QALoRA pools the input before A",
    "use_bdlora": "BD-LoRA stores A or B as diagonal blocks",
    "arrow_config": "Arrow routes between several adapters",
    "kasa_config": "KaSA truncates the base's weights and adds a diagonal",
    "monteclora_config": "Monteclora samples its weights",
    "megatron_config": "it is for Megatron's parallel layers",
    "enable_lora": "merged linear layers of PEFT 0.2 hold several adapters in one tensor",
}
_LIBRARIES = frozenset({"transformers", "peft", "diffusers", "sentence_transformers", "torch", "unsloth"})
_INITS_THAT_CHANGE_THE_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
_HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})


def find_unsupported(config: Mapping[str, Any]) -> tuple[UnsupportedField, ...]:
    """Return the fields of a parsed `adapter_config.json` that we don't compute exactly, in the order of the file."""
    found = []
    for name, value in config.items():
        why = _why_unsupported(name, value)
        if why:
            found.append(UnsupportedField(name, why))
    return tuple(found)


def find_forbidden(config: Mapping[str, Any]) -> tuple[UnsupportedField, ...]:
    """Return the fields that no published adapter may set: a loader that honours them imports or rebuilds things."""
    found = []
    for name, value in config.items():
        if (name == "auto_map" and _is_set(value)) or (name == "auto_mapping" and not _is_of_a_library(value)):
            why = "it makes loaders import a class by name; set it to null (PEFT writes it when task_type is not given)"
            found.append(UnsupportedField(name, why))
        elif name == "megatron_core":
            if value not in (None, "", "megatron.core"):
                found.append(UnsupportedField(name, "it makes loaders import a module by name; set it to null"))
        elif (name.startswith("megatron_") or name == "layer_replication") and _is_set(value):
            found.append(UnsupportedField(name, REFUSED.get(name, "it is for Megatron's parallel layers")))
    return tuple(found)


def _is_of_a_library(mapping: object) -> bool:
    """Whether auto_mapping names a class of a library that every reader of adapters has, or nothing.

    lorahub records it and imports nothing by it; other loaders do.
    """
    if not _is_set(mapping):
        return True
    library = mapping.get("parent_library") if isinstance(mapping, Mapping) else ""
    return isinstance(library, str) and library.partition(".")[0] in _LIBRARIES


def find_unknown(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that are set and that this version doesn't know: as in PEFT, they change nothing here."""
    known = _KNOWN | REFUSED.keys()
    return tuple(name for name, value in config.items() if name not in known and _is_set(value))


def _why_unsupported(name: str, value: object) -> str | None:
    if name == "init_lora_weights":
        return _why_init_is_unsupported(value)
    if name in _KNOWN or not _is_set(value):
        return None
    return REFUSED.get(name)


def _why_init_is_unsupported(value: object) -> str | None:
    if value is None or isinstance(value, bool) or str(value).lower() in _HARMLESS_INITS:
        return None
    if str(value).lower().startswith(_INITS_THAT_CHANGE_THE_BASE):
        return (
            f"{str(value)[:40]!r} changed the base's weights when training began; convert the adapter to plain LoRA: "
            "save_pretrained(…, path_initial_model_for_weight_conversion=…)"
        )
    return f"{str(value)[:40]!r} is not a known initialisation"


def _is_set(value: object) -> bool:
    """Whether `value` differs from what a field that isn't used looks like."""
    return value not in (None, False, 0, "", "none", [], {})
