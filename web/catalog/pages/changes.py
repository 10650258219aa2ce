"""What differs between two versions: config, files, tensors, and how far each module moved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hub.manifest import Manifest

from ..svg import Heat, heat_map
from .formats import number_text
from .grid import place_of, rows_and_columns

MAX_LISTED = 600
MAX_ROWS = 48
MAX_COLUMNS = 256
MAX_VALUE_CHARS = 200
MODULE_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "c_attn", "c_proj", "c_fc")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of adapter_config.json; a side without it says `none`."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """change: `added`, `removed` or `changed`.  before, after: sizes in bytes."""

    path: str
    change: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class TensorChange:
    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ModuleMove:
    """One module's update in both versions: its norms (None where it has none), and the cosine between them."""

    module: str
    before: float | None
    after: float | None
    cosine: float | None


@dataclass(frozen=True, slots=True)
class ChangesView:
    """All differences.  changed, compared: modules that moved, of all.  mean_cosine: of the updates as a whole.

    note: why no modules were compared; empty if they were.
    """

    fields: tuple[FieldChange, ...]
    files: tuple[FileChange, ...]
    tensors: tuple[TensorChange, ...]
    rows: tuple[ModuleMove, ...] = ()
    chart: Markup | None = None
    top: float = 0.0
    compared: int = 0
    changed: int = 0
    mean_cosine: float | None = None
    note: str = ""


def view_changes(
    before: Manifest, after: Manifest, moves: Sequence[ModuleMove], mean_cosine: float | None, note: str = ""
) -> ChangesView:
    """Return the differences of two manifests, with `moves` drawn as a map."""
    known = [move.cosine for move in moves if move.cosine is not None]
    return ChangesView(
        fields=field_changes(before.config, after.config),
        files=file_changes(before, after),
        tensors=tensor_changes(before, after)[:MAX_LISTED],
        rows=tuple(moves[:MAX_LISTED]),
        chart=_draw(moves) if known else None,
        top=max((1 - cosine for cosine in known), default=0.0),
        compared=len(moves),
        changed=sum(1 for move in moves if move.cosine is None or move.cosine < 1 - 1e-6 or move.before != move.after),
        mean_cosine=mean_cosine,
        note=note,
    )


def field_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """Return the config fields that differ, by name."""
    names = sorted(set(before) | set(after))
    changed = (name for name in names if before.get(name) != after.get(name))
    return tuple(FieldChange(name, _shown(before, name), _shown(after, name)) for name in changed)


def _shown(config: Mapping[str, Any], name: str) -> str:
    text = json.dumps(config[name], ensure_ascii=False, sort_keys=True) if name in config else "none"
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"


def file_changes(before: Manifest, after: Manifest) -> tuple[FileChange, ...]:
    """Return the files that were added, removed, or have other bytes."""
    old = {entry.path: entry for entry in before.files}
    new = {entry.path: entry for entry in after.files}
    changes = []
    for path in sorted(set(old) | set(new)):
        was, now = old.get(path), new.get(path)
        if was and now and was.sha256 == now.sha256:
            continue
        change = "changed" if was and now else "removed" if was else "added"
        changes.append(FileChange(path, change, was.size if was else None, now.size if now else None))
    return tuple(changes)


def tensor_changes(before: Manifest, after: Manifest) -> tuple[TensorChange, ...]:
    """Return the tensors whose type or shape differs, or that only one side has."""
    old = {tensor.name: f"{tensor.dtype} {list(tensor.shape)}" for tensor in before.tensors}
    new = {tensor.name: f"{tensor.dtype} {list(tensor.shape)}" for tensor in after.tensors}
    names = (name for name in sorted(set(old) | set(new)) if old.get(name) != new.get(name))
    return tuple(TensorChange(name, old.get(name, "none"), new.get(name, "none")) for name in names)


def _draw(moves: Sequence[ModuleMove]) -> Markup:
    places = {move.module: place_of(move.module) for move in moves}
    cells = {
        (places[move.module].row, places[move.module].column): Heat(
            max(0.0, 1 - move.cosine), f"{move.module}\ncosine {move.cosine:.4f}"
        )
        for move in moves
        if move.cosine is not None
    }
    names, columns = rows_and_columns(places.values(), MODULE_ORDER)
    top = max((cell.value for cell in cells.values()), default=0.0)
    return heat_map(
        names[:MAX_ROWS],
        columns[:MAX_COLUMNS],
        cells,
        title=f"Cosine distance by module; the largest is {number_text(top)}",
        width=1080,
    )
