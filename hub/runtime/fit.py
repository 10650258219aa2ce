"""Whether an adapter's tensors and a base's modules are one whole: nothing missing, nothing unexpected."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from hub.adapter.config import LoraConfig
from hub.adapter.content import AdapterContent, summarize
from hub.base.blueprint import ModuleShape
from hub.errors import Incompatible
from hub.fit.placement import ALL_LINEAR, TargetRule
from hub.runtime import dense


def check_fit(content: AdapterContent, modules: Mapping[str, nn.Module]) -> None:
    """Raise Incompatible, which lists modules (the first few, then a count), unless every tensor has its place.

    Missing is a module that the config targets and the base has, without weights in the file.
    """
    here = {part.module for _, part in content.used()}
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
    if config.target_modules is None or config.target_modules == ALL_LINEAR:
        return []  # PEFT writes out what "all-linear" stood for; a file that says it leaves it to the tensors
    rule = TargetRule(config)
    return [
        name
        for name, module in modules.items()
        if (dense.is_linear(module) or dense.is_embedding(module)) and rule.includes(name, _shape(module))
    ]


def _shape(module: nn.Module) -> ModuleShape:
    return ModuleShape("embedding" if dense.is_embedding(module) else "linear", *dense.features(module))
