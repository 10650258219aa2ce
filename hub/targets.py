"""Which modules of a base a config would adapt, by PEFT's rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hub.blueprint import ModuleShape
from hub.lora_config import LoraConfig

ALL_LINEAR = "all-linear"
_OUTPUTS = frozenset({"lm_head", "score", "classifier", "embed_out"})
_FIRST_INDEX = re.compile(r".*?\.[^.]*\.(\d+)\.")


def targeted(config: LoraConfig, modules: Mapping[str, ModuleShape]) -> list[str]:
    """Return the names of the modules that PEFT would wrap, in the order given."""
    return [name for name, shape in modules.items() if is_targeted(config, name, shape)]


def is_targeted(config: LoraConfig, name: str, shape: ModuleShape) -> bool:
    """Whether PEFT would wrap the module `name`."""
    if _is_excluded(config, name) or any(f".{saved}." in f".{name}." for saved in config.modules_to_save):
        return False
    targets = config.target_modules
    if targets is None:
        return False
    if targets == ALL_LINEAR:
        return shape.kind != "embedding" and name.rpartition(".")[2] not in _OUTPUTS
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    if name in targets:
        return True
    return _ends_with_one_of(name, targets) and _is_in_layers(config, name)


def _is_excluded(config: LoraConfig, name: str) -> bool:
    excluded = config.exclude_modules
    if isinstance(excluded, str):
        return re.fullmatch(excluded, name) is not None
    return bool(excluded) and (name in (excluded or ()) or _ends_with_one_of(name, excluded or ()))


def _ends_with_one_of(name: str, endings: Iterable[str]) -> bool:
    return name.endswith(tuple(f".{ending}" for ending in endings))


def _is_in_layers(config: LoraConfig, name: str) -> bool:
    if config.layers_to_transform is None:
        return True
    patterns = [re.compile(rf"(?:^|.*?\.){pattern}\.(\d+)\.") for pattern in config.layers_pattern]
    found = next((match for pattern in patterns or [_FIRST_INDEX] if (match := pattern.match(name))), None)
    return found is not None and int(found[1]) in config.layers_to_transform
