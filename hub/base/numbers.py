"""The numbers of a base's config.json that change what its weights compute, as a text that manifests record.

Two bases of equal weights are two models where `rope_theta` or a norm's epsilon differ.  What is recorded is the values
themselves, so that a difference can be named: numbers, switches, and the few words that choose a function.  Left out is
what is known to change nothing that a forward pass computes: token ids, dropout, generation, training.  A value that
only one of the two configs has isn't compared: versions of transformers write more of the defaults, or fewer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_TEXT = 16_384
_WORDS = frozenset(
    {
        "hidden_act",
        "hidden_activation",
        "activation_function",
        "feed_forward_proj",
        "position_embedding_type",
        "rope_type",
    }
)
_IGNORED = re.compile(
    r"_.*|.*_token_ids?|.*token_index|.*dropout.*|.*pdrop|.*layerdrop|initializer_.*|init_std|use_cache|cache_.*|output_.*"
    r"|return_dict.*|vocab_size|max_position_embeddings|n_positions|n_ctx|pretraining_tp|num_labels|is_decoder"
    r"|is_encoder_decoder|add_cross_attention|cross_attention_hidden_size|tie_.*|torchscript|use_bfloat16|.*aux_loss.*"
    r"|.*jitter.*|chunk_size_feed_forward|gradient_checkpointing|mask_.*|apply_spec_augment|ctc_.*|summary_.*"
    r"|max_length|min_length|do_sample|early_stopping|num_beams.*|temperature|top_[kp]|typical_p|.*_penalty"
    r"|no_repeat_ngram_size|encoder_no_repeat_ngram_size|num_return_sequences|begin_suppress.*|suppress_.*|forced_.*"
    r"|transformers_version|dtype|torch_dtype|quantization_config|id2label|label2id|architectures|auto_map|task_specific.*"
    r"|pruned_heads|.*_loss_.*|router_z_.*|fused_.*|seq_length|use_flash_.*|initial.*|unsloth_.*|residual_init.*"
)
_LENGTH = ("max_position_embeddings", "n_positions")
_STRETCHED = frozenset({"dynamic", "longrope", "yarn"})


def config_numbers(config: Mapping[str, Any]) -> str | None:
    """Return the values that change the function, as canonical JSON of flat names; None if there are none."""
    found = dict(_values(config, ""))
    if _STRETCHED & {value for name, value in found.items() if name.endswith("rope_type")}:
        found |= {name: config[name] for name in _LENGTH if isinstance(config.get(name), int)}
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return text if found and len(text) <= MAX_TEXT else None


def differing(recorded: str | None, here: str | None) -> list[str]:
    """Return every value that both name and that isn't the same, as `rope_theta is 5e5 here, and was 1e4`."""
    if recorded is None or here is None:
        return []
    ours, theirs = _parse(here), _parse(recorded)
    return [
        f"{name} is {ours[name]!r} here, and was {theirs[name]!r}"
        for name in sorted(ours.keys() & theirs.keys())
        if ours[name] != theirs[name]
    ]


def _values(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = str(key)
        if _IGNORED.fullmatch(name):
            continue
        if name in ("rope_parameters", "rope_scaling"):
            yield from _rope(value, prefix)
        elif isinstance(value, Mapping):
            yield from _values(value, f"{prefix}{name}.")
        elif _counts(name, value):
            yield prefix + name, value


def _rope(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the rotary settings by the names that every version of transformers shares."""
    if not isinstance(value, Mapping):
        return
    if any(isinstance(inner, Mapping) for inner in value.values()):  # by kind of layer
        for kind, inner in value.items():
            yield from _rope(inner, f"{prefix}{kind}.")
        return
    for key, inner in value.items():
        name = "rope_type" if key == "type" else str(key)
        if _counts(name, inner):
            yield f"{prefix}{name}", inner


def _counts(name: str, value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, (int, float, str)) for item in value)
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and name in _WORDS)


def _parse(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
