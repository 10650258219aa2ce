"""`adapter_config.json` as a typed value, read as PEFT 0.21 reads it.

    config = LoraConfig.parse(data)
    config.rank_for("model.layers.0.self_attn.q_proj")     # rank_pattern counts
    config.scaling_for("model.layers.0.self_attn.q_proj")  # alpha / rank, or alpha / sqrt(rank) for rsLoRA
    config.unsupported()                                   # what we don't compute exactly, by name

Parsing accepts every LoRA config that is well formed and safe, so that a catalog can show it.  Whether we compute it is
`unsupported`'s answer; whether a registry takes it is `forbidden`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.adapter.config_fields import UnsupportedField, find_forbidden, find_unknown, find_unsupported
from hub.adapter.patterns import PatternTable
from hub.errors import InvalidAdapter
from hub.formats import strict_json
from hub.formats.safe_pattern import UnsafePattern, check_pattern, is_literal

MAX_CONFIG_BYTES = 1024 * 1024
MAX_CONFIG_VALUES = 50_000
MAX_RANK = 16_384
MAX_NAMES = 20_000
MAX_SAVED_MODULES = 100
MAX_TOKEN_INDICES = 200_000
DEFAULT_RANK = 8
DEFAULT_ALPHA = 8
DEFAULT_EMBEDDING = "embed_tokens"
"""The module that a bare list of trainable_token_indices means, when the model doesn't say which its embedding is."""

_TIED_NAMES = frozenset({"embed_tokens", "lm_head"})
_BIAS_KINDS = ("none", "all", "lora_only")
_MAX_TEXT = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """One adapter's settings.  `rank` and `alpha` are the defaults that the patterns override.

    target_modules: names (a module is meant if its dotted name is or ends with one), a regular expression, or None.
    trainable_token_indices: module -> token ids, in the order of the rows of its delta.
    base_model: what `base_model_name_or_path` says.  raw: the whole object, as it was read.
    """

    rank: int = DEFAULT_RANK
    alpha: float = DEFAULT_ALPHA
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    trainable_token_indices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    task_type: str | None = None
    base_model: str | None = None
    base_revision: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)
    _ranks: PatternTable = field(init=False, repr=False, compare=False)
    _alphas: PatternTable = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Built once: a large model asks for tens of thousands of modules.
        object.__setattr__(self, "_ranks", PatternTable(self.rank_pattern))
        object.__setattr__(self, "_alphas", PatternTable(self.alpha_pattern))

    @classmethod
    def parse(cls, data: bytes) -> LoraConfig:
        """Read the bytes of `adapter_config.json`.  Raises InvalidAdapter, which names the field."""
        try:
            payload = strict_json.loads(data, max_bytes=MAX_CONFIG_BYTES, max_values=MAX_CONFIG_VALUES)
        except strict_json.StrictJsonError as error:
            raise InvalidAdapter(f"adapter_config.json {error}. Save the adapter again with PEFT.") from error
        return cls.from_json(payload)

    @classmethod
    def from_json(cls, payload: object) -> LoraConfig:
        """Read parsed JSON.  Raises InvalidAdapter, which names the field."""
        if not isinstance(payload, Mapping):
            raise InvalidAdapter("adapter_config.json is not a JSON object. Save the adapter again with PEFT.")
        read = _Fields(payload)
        read.check_peft_type()
        config = cls(
            rank=read.rank("r", payload.get("r", DEFAULT_RANK)),
            alpha=read.number("lora_alpha", payload.get("lora_alpha", DEFAULT_ALPHA)),
            use_rslora=read.switch("use_rslora"),
            use_dora=read.switch("use_dora"),
            bias=read.bias(),
            lora_bias=read.switch("lora_bias"),
            fan_in_fan_out=read.switch("fan_in_fan_out"),
            rank_pattern={key: read.rank("rank_pattern", value) for key, value in read.patterns("rank_pattern")},
            alpha_pattern={key: read.number("alpha_pattern", value) for key, value in read.patterns("alpha_pattern")},
            target_modules=read.names_or_pattern("target_modules"),
            exclude_modules=read.names_or_pattern("exclude_modules"),
            layers_to_transform=read.layers("layers_to_transform"),
            layers_pattern=read.literal_names("layers_pattern", MAX_SAVED_MODULES),
            modules_to_save=read.literal_names("modules_to_save", MAX_SAVED_MODULES),
            trainable_token_indices=read.token_indices(),
            task_type=read.text("task_type"),
            base_model=read.text("base_model_name_or_path"),
            base_revision=read.text("revision"),
            raw=dict(payload),
        )
        config._check_together()
        return config

    def rank_for(self, module: str) -> int:
        """Return the rank that PEFT gives `module`, a dotted name: the first key of rank_pattern that matches, or r."""
        key = self._ranks.first_match(module)
        return self.rank if key is None else self.rank_pattern[key]

    def alpha_for(self, module: str) -> float:
        """Return the alpha that PEFT gives `module`: the first key of alpha_pattern that matches, or lora_alpha."""
        key = self._alphas.first_match(module)
        return self.alpha if key is None else self.alpha_pattern[key]

    def scaling_for(self, module: str) -> float:
        """Return the factor of B·A at `module`: alpha / rank, or alpha / sqrt(rank) for rsLoRA."""
        rank = self.rank_for(module)
        return self.alpha_for(module) / (math.sqrt(rank) if self.use_rslora else rank)

    def pattern_steps(self, module: str) -> int:
        """Return how many steps of `re` the patterns may cost for `module`: a bound against made-up names."""
        return self._ranks.steps(module) + self._alphas.steps(module)

    @property
    def effective_rank(self) -> int:
        """The largest rank that any module may have: what a server's max_lora_rank must hold."""
        return max((self.rank, *self.rank_pattern.values()))

    @property
    def method(self) -> str:
        """`lora`, `rslora`, `dora`, or `dora+rslora`."""
        names = [name for name, used in (("dora", self.use_dora), ("rslora", self.use_rslora)) if used]
        return "+".join(names) or "lora"

    def unsupported(self) -> tuple[UnsupportedField, ...]:
        """Return every field that changes the result in a way that we don't compute exactly; () if we compute all."""
        fields = find_unsupported(self.raw)
        return fields if self._reaches_tied_layers() else tuple(f for f in fields if f.name != "ensure_weight_tying")

    def unknown(self) -> tuple[str, ...]:
        """Return the fields that are set and that this version doesn't know."""
        return find_unknown(self.raw)

    def _reaches_tied_layers(self) -> bool:
        """Whether the embedding or the output layer is adapted or stored whole: ensure_weight_tying is about these.

        Trained tokens are tied with or without it.
        """
        targets = self.target_modules
        listed = () if isinstance(targets, str) or targets is None else targets
        named = {name.rpartition(".")[2] for name in (*listed, *self.modules_to_save)}
        is_matched = isinstance(targets, str) and any(re.fullmatch(targets, name) for name in _TIED_NAMES)
        return is_matched or bool(named & _TIED_NAMES) or len(self.trainable_token_indices) > 1

    def forbidden(self) -> tuple[UnsupportedField, ...]:
        """Return every field that no published adapter may set: each makes a loader import or rebuild something."""
        return find_forbidden(self.raw)

    def _check_together(self) -> None:
        if isinstance(self.target_modules, str) and (self.layers_to_transform is not None or self.layers_pattern):
            raise _bad("layers_to_transform", "goes with a list of target_modules, not with a pattern")
        if self.layers_pattern and self.layers_to_transform is None:
            raise _bad("layers_pattern", "goes with layers_to_transform, which is missing")
        if self.lora_bias and self.use_dora:
            raise _bad("lora_bias", "can't be combined with use_dora")


def _bad(name: str, fault: str) -> InvalidAdapter:
    return InvalidAdapter(f"adapter_config.json: {name} {fault}. Correct it, or save again with PEFT.", field=name)


class _Fields:
    """Reads fields of one parsed config, each with the fault named.  A null is a field that isn't there."""

    def __init__(self, payload: Mapping[str, Any]) -> None:
        self._payload = payload

    def check_peft_type(self) -> None:
        kind = self._payload.get("peft_type")
        if kind is None and "lora_parameters" in self._payload:
            raise InvalidAdapter(
                "adapter_config.json is of mlx-lm, whose tensors have other names and lie on their sides. Fuse the "
                "adapter there, or train it with PEFT: mlx's lora_a is PEFT's lora_A.weight transposed, and its scale "
                "is lora_alpha / r.",
                field="lora_parameters",
            )
        if kind is None:
            raise _bad("peft_type", "is missing; a LoRA adapter says LORA")
        if kind != "LORA":
            raise _bad("peft_type", f"is {str(kind)[:40]!r}; lorahub holds LoRA adapters only")

    def rank(self, name: str, value: object) -> int:
        if type(value) is not int or not 1 <= value <= MAX_RANK:
            raise _bad(name, f"has the rank {str(value)[:40]!r}; a whole number from 1 to {MAX_RANK:,} is needed")
        return value

    def number(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _bad(name, f"is {str(value)[:40]!r}; a number is needed")
        return value

    def switch(self, name: str) -> bool:
        value = self._payload.get(name)
        if value is not None and not isinstance(value, bool):
            raise _bad(name, f"is {str(value)[:40]!r}; true or false is needed")
        return bool(value)

    def text(self, name: str) -> str | None:
        value = self._payload.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or len(value) > _MAX_TEXT or _CONTROL.search(value):
            raise _bad(name, f"is not a text of at most {_MAX_TEXT} characters")
        return value

    def bias(self) -> str:
        value = self._payload.get("bias") or "none"
        if value not in _BIAS_KINDS:
            raise _bad("bias", f"is {str(value)[:40]!r}; {', '.join(_BIAS_KINDS)} are known")
        return str(value)

    def patterns(self, name: str) -> list[tuple[str, Any]]:
        value = self._payload.get(name) or {}
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _bad(name, "is not an object that maps module names to numbers")
        try:
            PatternTable(value)
        except UnsafePattern as error:
            raise _bad(name, f"is refused: the key {error}") from error
        return list(value.items())

    def names_or_pattern(self, name: str) -> tuple[str, ...] | str | None:
        value = self._payload.get(name)
        if not isinstance(value, str):
            return None if value is None else self._names(name, value)
        try:
            check_pattern(value)
        except UnsafePattern as error:
            raise _bad(name, f"is refused: the pattern {error}. Write a list of module names") from error
        return value

    def literal_names(self, name: str, most: int) -> tuple[str, ...]:
        """Read names that PEFT puts into a regular expression: only plain dotted names are safe there."""
        value = self._payload.get(name)
        names = (value,) if isinstance(value, str) else self._names(name, value or [], most)
        if not all(is_literal(item) for item in names):
            raise _bad(name, "has a name that is not a plain dotted module name")
        return names

    def layers(self, name: str) -> tuple[int, ...] | None:
        value = self._payload.get(name)
        if value is None or value == []:
            return None
        return self._counts(name, [value] if isinstance(value, int) else value, MAX_NAMES)

    def token_indices(self) -> dict[str, tuple[int, ...]]:
        name = "trainable_token_indices"
        value = self._payload.get(name)
        by_module = {DEFAULT_EMBEDDING: value} if isinstance(value, list) and value else value or {}
        too_many = isinstance(by_module, Mapping) and len(by_module) > MAX_SAVED_MODULES
        if too_many or not isinstance(by_module, Mapping) or not all(is_literal(str(name)) for name in by_module):
            raise _bad(name, "is neither a list of token ids nor an object of such lists by module name")
        return {module: self._counts(name, ids, MAX_TOKEN_INDICES) for module, ids in by_module.items()}

    def _names(self, name: str, value: object, most: int = MAX_NAMES) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise _bad(name, f"is not a list of at most {most:,} module names")
        for item in value:
            if not isinstance(item, str) or not 0 < len(item) <= _MAX_TEXT or _CONTROL.search(item):
                raise _bad(name, f"has {str(item)[:40]!r}, which is not a module name")
        return tuple(value)

    def _counts(self, name: str, value: object, most: int) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise _bad(name, f"is not a list of at most {most:,} whole numbers")
        if not all(type(item) is int and 0 <= item < 2**31 for item in value):
            raise _bad(name, "has something other than whole numbers from 0 on")
        return tuple(value)
