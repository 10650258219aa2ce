"""Adapter modules laid out as a grid: layers across, kinds of modules down."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .formats import natural_key

OUTSIDE = "·"
"""The column of modules that are in no numbered layer, such as embeddings."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d{1,6})\.(.+)\Z", re.ASCII)
_GROUPS = ("self_attn.", "attn.", "attention.", "mlp.", "self_attention.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module stands in the grid: row is its kind, column its layer."""

    row: str
    column: str


def place_of(module: str) -> Place:
    """`model.layers.3.self_attn.q_proj` -> row `q_proj`, column `3`; a module outside the layers keeps its name."""
    found = _LAYER.search(module)
    if not found:
        return Place(module.removeprefix("model."), OUTSIDE)
    kind = found[2]
    for group in _GROUPS:
        kind = kind.removeprefix(group)
    return Place(kind, found[1])


def rows_and_columns(places: Iterable[Place], order: tuple[str, ...] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the grid's rows (those of `order` first, then by first appearance) and its columns in number order."""
    seen_rows: dict[str, None] = {}
    seen_columns: dict[str, None] = {}
    for place in places:
        seen_rows.setdefault(place.row)
        seen_columns.setdefault(place.column)
    rank = {name: index for index, name in enumerate(order)}
    rows = sorted(seen_rows, key=lambda row: (rank.get(row, len(order)), natural_key(row) if row not in rank else ()))
    return tuple(rows), tuple(sorted(seen_columns, key=natural_key))
