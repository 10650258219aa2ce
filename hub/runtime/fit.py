"""Whether an adapter's tensors and a base's modules are one whole: nothing missing, nothing unexpected."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from hub.adapter_content import AdapterContent, summarize
from hub.adapter_keys import is_saved_module
from hub.errors import Incompatible
from hub.lora_config import LoraConfig
from hub.runtime import dense


def check_fit(content: AdapterContent, modules: Mapping[str, nn.Module]) -> None:
    """Raise Incompatible, which lists modules (the first few, then a count), unless every tensor has its place.

    Missing is a module that the config targets and the base has, without weights in the file.
    """
    here = {part.module for part in content.parts}
    unexpected = sorted(name for name in here if name not in modules)
    missing = sorted(name for name in targeted(content.config, modules) if name not in here)
    if not unexpected and not missing:
        return
    lines = ["The adapter does not fit this base."]
    if unexpected:
        lines.append(f"Unexpected, {len(unexpected)} of its modules are not here: {summarize(unexpected)}.")
    if missing:
        lines.append(f"Missing, {len(missing)} modules that it targets have no weights: {summarize(missing)}.")
    lines.append("Load the base that it was trained on; `lorahub check` compares the two.")
    raise Incompatible("\n".join(lines), unexpected=unexpected[:20], missing=missing[:20])


def targeted(config: LoraConfig, modules: Mapping[str, nn.Module]) -> list[str]:
    """Return the modules of the base that the config's placement fields name, by PEFT's rules."""
    if config.target_modules is None:
        return []
    return [
        name
        for name, module in modules.items()
        if (dense.is_linear(module) or dense.is_embedding(module)) and _is_targeted(name, config)
    ]


def _is_targeted(name: str, config: LoraConfig) -> bool:
    if config.exclude_modules is not None and _matches(name, config.exclude_modules):
        return False
    if is_saved_module(name, config.modules_to_save):
        return False
    if config.target_modules == "all-linear" or not _matches(name, config.target_modules or ()):
        return False  # PEFT writes out what "all-linear" stood for; a file that says it leaves it to the tensors
    return _is_in_layers(name, config)


def _matches(name: str, target: tuple[str, ...] | str) -> bool:
    if isinstance(target, str):
        return re.fullmatch(target, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in target)


def _is_in_layers(name: str, config: LoraConfig) -> bool:
    if config.layers_to_transform is None or isinstance(config.target_modules, str):
        return True
    if config.target_modules and name in config.target_modules:
        return True
    patterns = config.layers_pattern or (r"[^.]*",)
    for pattern in patterns:
        found = re.match(rf".*\.{pattern}\.(\d+)\.", name)
        if found:
            return int(found[1]) in config.layers_to_transform
    return False
