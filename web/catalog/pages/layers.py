"""How an adapter's modules are shown: the layer map, and the parameters by kind and by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hub.fit.parameters import SummaryRow

from ..svg import Heat, heat_map, meter
from .changes import MAX_COLUMNS, MAX_LISTED, MAX_ROWS, MODULE_ORDER
from .formats import number_text
from .grid import place_of, rows_and_columns


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One module: the Frobenius norm of its update (scaling included) and how many ranks it really uses.

    Both are None where the weights are not all finite.
    """

    module: str
    norm: float | None
    effective_rank: float | None
    rank: int


@dataclass(frozen=True, slots=True)
class LayersView:
    """The layer map as drawn, and the numbers behind it; or a note that says why there is none."""

    chart: Markup | None
    rows: tuple[LayerRow, ...] = ()
    top: float = 0.0
    left_out: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class WeightsView:
    """What a look at every weight found.  note: why nobody looked yet."""

    nonfinite: tuple[str, ...] = ()
    nonfinite_count: int = 0
    zero_modules: tuple[str, ...] = ()
    zero_count: int = 0
    modules: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class PartRow:
    """Some modules together.  share: of the adapter's parameters."""

    name: str
    modules: int
    ranks: str
    parameters: int
    share: float
    meter: Markup


@dataclass(frozen=True, slots=True)
class ParametersView:
    """line: as PEFT prints it.  kinds: by module kind.  layers: in order, then what is outside of them."""

    line: str
    kinds: tuple[PartRow, ...] = ()
    layers: tuple[PartRow, ...] = ()


def draw_layers(rows: Sequence[LayerRow]) -> LayersView:
    """Draw the map of a version's modules."""
    cells = {}
    places = {row.module: place_of(row.module) for row in rows}
    for row in rows:
        place = places[row.module]
        used = f"effective rank {_text(row.effective_rank)} of {row.rank}"
        cells[place.row, place.column] = Heat(row.norm or 0.0, f"{row.module}\n‖ΔW‖ {_text(row.norm)}, {used}")
    names, columns = rows_and_columns(places.values(), MODULE_ORDER)
    top = max((row.norm or 0.0 for row in rows), default=0.0)
    title = f"Norm of the update by layer and module; the largest is {number_text(top)}"
    return LayersView(
        heat_map(names[:MAX_ROWS], columns[:MAX_COLUMNS], cells, title=title, top=top),
        tuple(rows[:MAX_LISTED]),
        top,
        max(0, len(rows) - MAX_LISTED),
    )


def _text(value: float | None) -> str:
    return "not finite" if value is None else number_text(value)


def view_parameters(found: Mapping[str, Any]) -> ParametersView:
    """Draw what `recipes.parameters` counted."""
    kinds, layers = ([SummaryRow(**row) for row in found[part]] for part in ("kinds", "layers"))
    total = max(1, sum(row.parameters for row in kinds))
    return ParametersView(
        found["line"], tuple(_part(row, total) for row in kinds), tuple(_part(row, total) for row in layers)
    )


def _part(row: SummaryRow, total: int) -> PartRow:
    ranks = f"{row.ranks[0]}–{row.ranks[-1]}" if len(row.ranks) > 1 else "".join(str(rank) for rank in row.ranks)
    share = row.parameters / total
    bar = meter(share, title=f"{share:.0%} of the parameters")
    return PartRow(row.name, row.modules, ranks, row.parameters, share, bar)
