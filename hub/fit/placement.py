"""Which modules of a base a config would adapt, by PEFT's rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from hub.adapter.config import LoraConfig
from hub.adapter.keys import is_saved_module
from hub.base.blueprint import ModuleShape

ALL_LINEAR = "all-linear"
_OUTPUTS = frozenset({"lm_head", "score", "classifier", "embed_out"})
_FIRST_INDEX = re.compile(r".*?\.[^.]*\.(\d+)\.")


class TargetRule:
    """One config's placement fields, ready to be asked for any module."""

    def __init__(self, config: LoraConfig) -> None:
        self._config = config
        self._targets = _matcher(config.target_modules)
        self._excluded = _matcher(config.exclude_modules)
        self._layers = frozenset(config.layers_to_transform or ())
        patterns = [re.compile(rf"(?:^|.*?\.){pattern}\.(\d+)\.") for pattern in config.layers_pattern]
        self._layer_patterns = patterns or [_FIRST_INDEX]

    def includes(self, name: str, shape: ModuleShape) -> bool:
        """Whether PEFT would wrap the module `name`."""
        if self._excluded(name) or is_saved_module(name, self._config.modules_to_save):
            return False
        targets = self._config.target_modules
        if targets == ALL_LINEAR:
            return shape.kind != "embedding" and name.rpartition(".")[2] not in _OUTPUTS
        if not self._targets(name):
            return False
        # A name that is given whole is meant in any layer.
        return isinstance(targets, str) or name in (targets or ()) or self._is_in_layers(name)

    def _is_in_layers(self, name: str) -> bool:
        if self._config.layers_to_transform is None:
            return True
        found = next((match for pattern in self._layer_patterns if (match := pattern.match(name))), None)
        return found is not None and int(found[1]) in self._layers


def targeted(config: LoraConfig, modules: Mapping[str, ModuleShape]) -> list[str]:
    """Return the names of the modules that PEFT would wrap, in the order given."""
    rule = TargetRule(config)
    return [name for name, shape in modules.items() if rule.includes(name, shape)]


def _matcher(names: tuple[str, ...] | str | None) -> Callable[[str], bool]:
    """Return whether a module is meant: by a regular expression, or by names that its own is or ends with."""
    if names is None:
        return lambda name: False
    if isinstance(names, str):
        pattern = re.compile(names)
        return lambda name: pattern.fullmatch(name) is not None
    endings = frozenset(names)
    return lambda name: any(ending in endings for ending in _endings(name))


def _endings(name: str) -> Iterator[str]:
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name
