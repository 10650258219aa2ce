"""How many parameters an adapter trains: PEFT's numbers, and where they are.

    summarize(config, base).line()
    'trainable params: 4,194,304 || all params: 6,742,609,920 || trainable%: 0.0622'

Counted from the tensors where there are any, else from what the config would add to the base.  One LoRA pair on a
layer of `in` x `out` has rank * (in + out) parameters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from hub.adapter.config import LoraConfig
from hub.adapter.content import AdapterContent
from hub.adapter.keys import is_saved_module
from hub.base.spec import BaseSpec
from hub.errors import InvalidRequest
from hub.fit.placement import targeted
from hub.manifest import Manifest

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)(?:\.|$)")
_HEADS = frozenset({"score", "classifier", "qa_outputs"})


@dataclass(frozen=True, slots=True)
class ParameterPart:
    """Some parameters of one module.

    what: `lora`, `magnitude`, `bias`, `tokens` or `whole` (modules_to_save).  added: they are new, beside the base's.
    """

    module: str
    what: str
    count: int
    rank: int | None = None
    added: bool = True
    trainable: bool = True

    @property
    def kind(self) -> str:
        """The module's last name, e.g. `q_proj`, with what it is unless that is LoRA."""
        name = self.module.rpartition(".")[2]
        return name if self.what == "lora" else f"{name} ({self.what})"

    @property
    def layer(self) -> int | None:
        found = _LAYER.search(self.module)
        return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of a table.  ranks: those of its modules, in order."""

    name: str
    modules: int
    ranks: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class ParameterSummary:
    """trainable: what training updates.  total: the base and the adapter together, None without a base.

    kernel: what computes the products of the base's 4-bit weights, None unless it is loaded and has some.
    """

    trainable: int
    total: int | None
    parts: tuple[ParameterPart, ...]
    kernel: str | None = None

    def line(self) -> str:
        """Return the line that PEFT's print_trainable_parameters prints."""
        if self.total is None:
            return f"trainable params: {self.trainable:,d} || all params: unknown without a base"
        share = 100 * self.trainable / self.total
        return f"trainable params: {self.trainable:,d} || all params: {self.total:,d} || trainable%: {share:.4f}"

    def by_kind(self) -> tuple[SummaryRow, ...]:
        """One row per module kind, e.g. `q_proj`, the largest first."""
        rows = _rows(self.parts, lambda part: part.kind)
        return tuple(sorted(rows, key=lambda row: (-row.parameters, row.name)))

    def by_layer(self) -> tuple[SummaryRow, ...]:
        """One row per layer in order, then one for what lies outside of the layers."""
        inside = [part for part in self.parts if part.layer is not None]
        outside = [part for part in self.parts if part.layer is None]
        rows = _rows(sorted(inside, key=lambda part: part.layer or 0), lambda part: f"layer {part.layer}")
        return (*rows, *_rows(outside, lambda part: "outside the layers"))

    def table(self) -> str:
        """Return both tables as text; equal neighbouring layers share a line."""
        sections = [("by module", self.by_kind()), ("by layer", _fold(self.by_layer()))]
        return "\n\n".join(_format(title, rows, self.trainable) for title, rows in sections)

    def to_json(self) -> dict[str, Any]:
        return {
            "trainable": self.trainable,
            "total": self.total,
            "line": self.line(),
            "by_module": [_row_json(row) for row in self.by_kind()],
            "by_layer": [_row_json(row) for row in self.by_layer()],
        } | ({} if self.kernel is None else {"kernel": self.kernel})

    def __str__(self) -> str:
        kernel = "" if self.kernel is None else f"\n4-bit kernel: {self.kernel}"
        return f"{self.line()}{kernel}\n\n{self.table()}"


def summarize(adapter: LoraConfig | Manifest | AdapterContent, base: BaseSpec | None = None) -> ParameterSummary:
    """Count an adapter's parameters, and with a base those of both.

    A LoraConfig alone needs the base.  Raises InvalidRequest if the config adapts nothing of it.
    """
    if isinstance(adapter, LoraConfig):
        parts, config = _parts_of_config(adapter, base), adapter
    else:
        content = AdapterContent.from_manifest(adapter) if isinstance(adapter, Manifest) else adapter
        parts, config = list(_parts_of_tensors(content)), content.config
    if config.raw.get("init_lora_weights") == "mica":
        parts = [part for part in parts if part.what != "lora_B"] + [_frozen(p) for p in parts if p.what == "lora_B"]
    parts = list(_merge_pairs(parts))
    trainable = sum(part.count for part in parts if part.trainable)
    total = None if base is None else _base_total(base, parts) + sum(part.count for part in parts if part.added)
    return ParameterSummary(trainable, total, tuple(parts))


_WHATS: Mapping[str, tuple[str, bool]] = {
    "lora_A": ("lora_A", True),
    "lora_B": ("lora_B", True),
    "lora_bias": ("lora_A", True),
    "embedding_A": ("lora_A", True),
    "embedding_B": ("lora_B", True),
    "magnitude": ("magnitude", True),
    "trainable_tokens": ("tokens", True),
    "bias": ("bias", False),
    "modules_to_save": ("whole", True),
}


def _parts_of_tensors(content: AdapterContent) -> Iterator[ParameterPart]:
    for tensor, part in content.used():
        if part.kind == "base_layer":
            continue  # a copy of the base's own weights: nothing was trained
        what, added = _WHATS[part.kind]
        yield ParameterPart(part.module, what, prod(tensor.shape), content.config.rank_for(part.module), added)


def _parts_of_config(config: LoraConfig, base: BaseSpec | None) -> list[ParameterPart]:
    if base is None:
        raise InvalidRequest("A config alone says no sizes. Name the base model too.")
    parts = list(_planned_updates(config, base))
    if not parts:
        raise InvalidRequest(
            f"target_modules {_shown(config.target_modules)} matches no module of this {base.architecture or 'base'}. "
            f"Its modules are e.g. {', '.join(sorted({name.rpartition('.')[2] for name in base.modules})[:8])}."
        )
    return [*parts, *_planned_extras(config, base)]


def _shown(targets: tuple[str, ...] | str | None) -> str:
    return repr(targets if isinstance(targets, str) or targets is None else list(targets[:8]))


def _planned_updates(config: LoraConfig, base: BaseSpec) -> Iterator[ParameterPart]:
    for name in targeted(config, base.modules):
        shape, rank = base.modules[name], config.rank_for(name)
        yield ParameterPart(name, "lora_A", rank * shape.in_features, rank)
        yield ParameterPart(name, "lora_B", rank * shape.out_features, rank)
        if config.use_dora:
            yield ParameterPart(name, "magnitude", shape.out_features)
        if config.lora_bias and shape.kind != "embedding":
            yield ParameterPart(name, "lora_A", shape.out_features, rank)


def _planned_extras(config: LoraConfig, base: BaseSpec) -> Iterator[ParameterPart]:
    wrapped = set(targeted(config, base.modules))
    for name, tensor in base.tensors.items():
        module, _, parameter = name.rpartition(".")
        if is_saved_module(module, config.modules_to_save):
            yield ParameterPart(module, "whole", tensor.numel)
        if parameter == "bias" and (config.bias == "all" or (config.bias == "lora_only" and module in wrapped)):
            yield ParameterPart(module, "bias", tensor.numel, added=False)
    for module, shape in base.modules.items():
        if is_saved_module(module, config.modules_to_save) and f"{module}.weight" not in base.tensors:
            yield ParameterPart(module, "whole", shape.in_features * shape.out_features)  # a tied output layer
    for named, indices in config.trainable_token_indices.items():
        module, width = _embedding(named, base)
        yield ParameterPart(module, "tokens", len(indices) * width)


def _embedding(named: str, base: BaseSpec) -> tuple[str, int]:
    embeddings = {name: shape for name, shape in base.modules.items() if shape.kind == "embedding"}
    for name, shape in base.modules.items():
        if f".{name}".endswith(f".{named}"):
            return name, shape.out_features if shape.kind == "embedding" else shape.in_features
    if not embeddings:
        raise InvalidRequest(f"trainable_token_indices names {named!r}, which this base doesn't have.")
    name, shape = next(iter(embeddings.items()))
    return name, shape.out_features


def _merge_pairs(parts: Iterable[ParameterPart]) -> Iterator[ParameterPart]:
    """Yield A and B of one module as one part."""
    merged: dict[tuple[str, str, bool], ParameterPart] = {}
    for part in parts:
        what = "lora" if part.what in {"lora_A", "lora_B"} else part.what
        key = (part.module, what, part.trainable)
        count = part.count + (merged[key].count if key in merged else 0)
        rank = part.rank if what == "lora" else None
        merged[key] = ParameterPart(part.module, what, count, rank, part.added, part.trainable)
    yield from merged.values()


def _frozen(part: ParameterPart) -> ParameterPart:
    return ParameterPart(part.module, part.what, part.count, part.rank, part.added, trainable=False)


def _base_total(base: BaseSpec, parts: Sequence[ParameterPart]) -> int:
    """Count the base as PEFT wraps it: with a classifier's new head, in place of the output layer."""
    heads = [part for part in parts if part.what == "whole" and part.module in _HEADS]
    new = [part for part in heads if not any(name.startswith(f"{part.module}.") for name in base.tensors)]
    if not new:
        return base.parameters
    output = sum(tensor.numel for name, tensor in base.tensors.items() if name.startswith("lm_head."))
    return base.parameters - output + sum(part.count for part in new)


def _rows(parts: Iterable[ParameterPart], key: Callable[[ParameterPart], str]) -> list[SummaryRow]:
    groups: dict[str, list[ParameterPart]] = defaultdict(list)
    for part in parts:
        groups[key(part)].append(part)
    return [
        SummaryRow(
            name,
            len({part.module for part in group}),
            tuple(sorted({part.rank for part in group if part.rank is not None})),
            sum(part.count for part in group),
        )
        for name, group in groups.items()
    ]


def _fold(rows: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Write runs of equal layers as one row: `layers 0-31, each`."""
    folded: list[list[SummaryRow]] = []
    for row in rows:
        same = bool(folded) and (row.modules, row.ranks, row.parameters) == (
            folded[-1][0].modules,
            folded[-1][0].ranks,
            folded[-1][0].parameters,
        )
        if same and row.name.startswith("layer ") and folded[-1][0].name.startswith("layer "):
            folded[-1].append(row)
        else:
            folded.append([row])
    return [_folded_row(run) for run in folded]


def _folded_row(run: Sequence[SummaryRow]) -> SummaryRow:
    if len(run) == 1:
        return run[0]
    first, last = run[0].name.removeprefix("layer "), run[-1].name.removeprefix("layer ")
    total = sum(row.parameters for row in run)
    return SummaryRow(f"layers {first}-{last}", sum(row.modules for row in run), run[0].ranks, total)


def _format(title: str, rows: Sequence[SummaryRow], trainable: int) -> str:
    header = (title, "modules", "rank", "parameters", "share")
    lines = [header]
    for row in rows:
        ranks = ", ".join(map(str, row.ranks[:4])) + (", …" if len(row.ranks) > 4 else "") or "-"
        share = f"{100 * row.parameters / trainable:.1f} %" if trainable else "-"
        lines.append((row.name, f"{row.modules:,d}", ranks, f"{row.parameters:,d}", share))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            text.ljust(widths[0]) if column == 0 else text.rjust(widths[column]) for column, text in enumerate(line)
        )
        for line in lines
    )


def _row_json(row: SummaryRow) -> dict[str, Any]:
    return {"name": row.name, "modules": row.modules, "ranks": list(row.ranks), "parameters": row.parameters}
