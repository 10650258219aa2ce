"""A model's tensors and modules as names and shapes, and the config.json that they are computed from.

Shapes are written as torch stores them: a linear layer's weight is (out, in), a Conv1D's (in, out), an embedding's
(count, width).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hub.errors import InvalidRequest

ModuleKind = Literal["linear", "embedding", "conv1d", "conv"]

MAX_LAYERS = 2_000
MAX_SIDE = 2**31


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """A module that an adapter can target.  Of an embedding, in_features is the number of entries.

    kernel, groups: of a convolution (`conv`); `conv1d` is gpt2's name of a linear layer that is stored transposed.
    """

    kind: ModuleKind
    in_features: int
    out_features: int
    kernel: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A model's tensors (name -> shape) and its modules (name -> shape), without any weights."""

    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    modules: dict[str, ModuleShape] = field(default_factory=dict)

    def linear(self, name: str, out_features: int, in_features: int, bias: bool = False) -> None:
        self.modules[name] = ModuleShape("linear", in_features, out_features)
        self._weight(name, (out_features, in_features), out_features if bias else None)

    def conv1d(self, name: str, in_features: int, out_features: int) -> None:
        self.modules[name] = ModuleShape("conv1d", in_features, out_features)
        self._weight(name, (in_features, out_features), out_features)

    def embedding(self, name: str, count: int, width: int) -> None:
        self.modules[name] = ModuleShape("embedding", count, width)
        self._weight(name, (count, width), None)

    def norm(self, name: str, width: int, bias: bool = False) -> None:
        self._weight(name, (width,), width if bias else None)

    def parameter(self, name: str, *shape: int) -> None:
        self.tensors[name] = shape

    def output(self, name: str, vocabulary: int, width: int, tied: bool, bias: bool = False) -> None:
        self.linear(name, vocabulary, width, bias)
        if tied:
            del self.tensors[f"{name}.weight"]

    def _weight(self, name: str, shape: tuple[int, ...], bias: int | None) -> None:
        self.tensors[f"{name}.weight"] = shape
        if bias is not None:
            self.tensors[f"{name}.bias"] = (bias,)


class ModelConfig:
    """A model's `config.json`, asked field by field, with transformers' defaults given by the asker."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    def size(self, name: str, default: int | None = None, most: int = MAX_SIDE) -> int:
        value = self.raw.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= most:
            raise InvalidRequest(f"The base's config.json says {name}: {str(value)[:40]!r}; a whole number is needed.")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.raw.get(name)
        return default if value is None else bool(value)

    def layers(self, name: str = "num_hidden_layers") -> range:
        return range(self.size(name, most=MAX_LAYERS))
