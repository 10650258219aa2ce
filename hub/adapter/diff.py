"""What changed between two adapters, and where an adapter's update is strong.

    print(diff("./v1", "./v2"))        # config, files, tensors, and per module the cosine of the two updates
    layer_map("./v1").cells            # ‖ΔW‖ and effective rank per layer and module

Neither needs the base.  DoRA's magnitudes are compared as tensors; its direction update as the low-rank product.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.adapter.deltas import AdapterWeights, Factors, cosine, effective_rank, norm
from hub.adapter.files import scan_folder
from hub.formats.readable import Readable
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE

Files = Path | str | Mapping[str, Readable]
"""An adapter's folder, or its files wherever they are."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)(?:\.|$)")
_CHUNK_BYTES = 1024 * 1024
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One field of adapter_config.json; None for a side that doesn't have it."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class NamedChanges:
    """Names that only the second, only the first, or both have, with other content."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class ModuleDiff:
    """How one module's update moved.

    cosine: of the two updates; None if a side has none, is zero, or has another shape.
    norm_before, norm_after: ‖ΔW‖, None where that side has no update.
    """

    module: str
    cosine: float | None
    norm_before: float | None
    norm_after: float | None


@dataclass(frozen=True, slots=True)
class AdapterDiff:
    """The differences between two adapters, the first being the older."""

    config: tuple[ConfigChange, ...]
    files: NamedChanges
    tensors: NamedChanges
    modules: tuple[ModuleDiff, ...]

    @property
    def same(self) -> bool:
        return not self.config and not self.files and not self.tensors

    @property
    def mean_cosine(self) -> float | None:
        """The cosine of the two adapters' updates as a whole, each module weighted by its norms; None if unknown."""
        known = [m for m in self.modules if m.cosine is not None]
        before = math.hypot(*(m.norm_before or 0.0 for m in self.modules))
        after = math.hypot(*(m.norm_after or 0.0 for m in self.modules))
        if not known or not before or not after:
            return None
        return sum((m.cosine or 0) * (m.norm_before or 0) * (m.norm_after or 0) for m in known) / (before * after)

    def lines(self) -> list[str]:
        """Return the diff as text: config, files, tensors, then the modules that moved most."""
        if self.same:
            return ["The two adapters are the same."]
        lines = [f"config   {c.field}: {_show(c.before)} -> {_show(c.after)}" for c in self.config]
        for title, changes in (("files", self.files), ("tensors", self.tensors)):
            for verb, names in (("added", changes.added), ("removed", changes.removed), ("changed", changes.changed)):
                if names:
                    more = f", and {len(names) - 3:,} more" if len(names) > 3 else ""
                    lines.append(f"{title:<8} {len(names):,} {verb}: {', '.join(names[:3])}{more}")
        return lines + self._module_lines()

    def _module_lines(self) -> list[str]:
        if self.mean_cosine is None:
            return []
        moved = sorted(self.modules, key=lambda m: 2.0 if m.cosine is None else m.cosine)
        lines = [f"update   cosine {self.mean_cosine:.4f} over all modules; those that moved most:"]
        lines.extend(
            f"         {_number(m.cosine)}  ‖ΔW‖ {_number(m.norm_before)} -> {_number(m.norm_after)}  {m.module}"
            for m in moved[:_SHOWN]
        )
        rest = len(moved) - _SHOWN
        return [*lines, f"         and {rest:,} more modules"] if rest > 0 else lines

    def to_json(self) -> dict[str, Any]:
        return {
            "same": self.same,
            "config": [{"field": c.field, "before": c.before, "after": c.after} for c in self.config],
            "files": _changes_json(self.files),
            "tensors": _changes_json(self.tensors),
            "cosine": self.mean_cosine,
            "modules": [
                {"module": m.module, "cosine": m.cosine, "norm_before": m.norm_before, "norm_after": m.norm_after}
                for m in self.modules
            ],
        }

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(frozen=True, slots=True)
class LayerCell:
    """One module's update.  layer: its index, None outside of the layers.  kind: e.g. `q_proj`."""

    module: str
    layer: int | None
    kind: str
    rank: int
    norm: float
    effective_rank: float


@dataclass(frozen=True, slots=True)
class LayerMap:
    """Where an adapter's update is: one cell per module, by layer, then by name."""

    cells: tuple[LayerCell, ...]

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "module": cell.module,
                "layer": cell.layer,
                "kind": cell.kind,
                "rank": cell.rank,
                "norm": cell.norm,
                "effective_rank": cell.effective_rank,
            }
            for cell in self.cells
        ]


def diff(before: Files, after: Files) -> AdapterDiff:
    """Compare two adapters.  Raises InvalidAdapter, InvalidSafetensors, UnsafeFile, or HubError without numpy."""
    old_files, new_files = _open(before), _open(after)
    old, new = AdapterWeights.open(old_files), AdapterWeights.open(new_files)
    return AdapterDiff(
        config=_config_changes(old.content.config.raw, new.content.config.raw),
        files=_file_changes(old_files, new_files),
        tensors=_tensor_changes(old, new),
        modules=_module_diffs(old, new),
    )


def layer_map(files: Files) -> LayerMap:
    """Return ‖ΔW‖ and effective rank of every module's update.  Raises what `diff` raises."""
    cells = [_cell(factors) for factors in AdapterWeights.open(_open(files)).factors()]
    outside = max((cell.layer or 0 for cell in cells), default=0) + 1
    return LayerMap(tuple(sorted(cells, key=lambda c: (outside if c.layer is None else c.layer, c.module))))


def _cell(factors: Factors) -> LayerCell:
    found = _LAYER.search(factors.module)
    kind = factors.module.rpartition(".")[2]
    layer = int(found[1]) if found else None
    return LayerCell(factors.module, layer, kind, factors.rank, norm(factors), effective_rank(factors))


def _open(files: Files) -> Mapping[str, Readable]:
    return files if isinstance(files, Mapping) else scan_folder(files).readables()


def _config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ConfigChange, ...]:
    names = sorted(before.keys() | after.keys())
    changed = (n for n in names if _normal(before.get(n)) != _normal(after.get(n)))
    return tuple(ConfigChange(name, before.get(name), after.get(name)) for name in changed)


def _normal(value: Any) -> Any:
    """PEFT writes sets as lists in any order."""
    return sorted(value, key=str) if isinstance(value, list) else value


def _file_changes(before: Mapping[str, Readable], after: Mapping[str, Readable]) -> NamedChanges:
    """Compare the files beside config and weights, which are compared by their content."""
    old, new = (set(files) - {CONFIG_FILE, WEIGHTS_FILE} for files in (before, after))
    changed = (name for name in sorted(old & new) if not _equal_files(before[name], after[name]))
    return NamedChanges(tuple(sorted(new - old)), tuple(sorted(old - new)), tuple(changed))


def _equal_files(a: Readable, b: Readable) -> bool:
    if a.size != b.size:
        return False
    places = range(0, a.size, _CHUNK_BYTES)
    return all(a.read(place, _CHUNK_BYTES) == b.read(place, _CHUNK_BYTES) for place in places)


def _tensor_changes(old: AdapterWeights, new: AdapterWeights) -> NamedChanges:
    before, after = old.header.tensors, new.header.tensors
    both = sorted(before.keys() & after.keys())
    changed = tuple(name for name in both if _digest(old, name) != _digest(new, name))
    added, removed = after.keys() - before.keys(), before.keys() - after.keys()
    return NamedChanges(tuple(sorted(added)), tuple(sorted(removed)), changed)


def _digest(weights: AdapterWeights, name: str) -> tuple[str, tuple[int, ...], bytes]:
    tensor = weights.header.tensors[name]
    return tensor.dtype, tensor.shape, hashlib.sha256(weights.bytes_of(name)).digest()


def _module_diffs(old: AdapterWeights, new: AdapterWeights) -> tuple[ModuleDiff, ...]:
    """Walk both adapters in the order of their modules, holding one module of each at a time."""
    diffs: list[ModuleDiff] = []
    olds, news = old.factors(), new.factors()
    a, b = next(olds, None), next(news, None)
    while a is not None or b is not None:
        first, second = a, b
        if a is not None and b is not None and a.module != b.module:
            first, second = (a, None) if a.module < b.module else (None, b)
        diffs.append(_module_diff(first, second))
        a = next(olds, None) if first is not None else a
        b = next(news, None) if second is not None else b
    return tuple(diffs)


def _module_diff(a: Factors | None, b: Factors | None) -> ModuleDiff:
    module = a.module if a is not None else b.module if b is not None else ""
    angle = cosine(a, b) if a is not None and b is not None else None
    return ModuleDiff(module, angle, norm(a) if a else None, norm(b) if b else None)


def _changes_json(changes: NamedChanges) -> dict[str, list[str]]:
    return {"added": list(changes.added), "removed": list(changes.removed), "changed": list(changes.changed)}


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.3f}"
