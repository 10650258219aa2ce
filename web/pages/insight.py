"""What the weights themselves say: layer maps and version diffs, computed once per content and kept.

The numbers come from `hub.diff`, which works on r x r products and never builds an update of the base's size.  They are
kept in memory and in the server's data folder under the digests that they were computed from, so they never go stale.
One computation runs at a time in a process, and files over a limit are not read for a page at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hub.adapter_keys import parse_keys
from hub.errors import InvalidAdapter
from hub.lora_config import LoraConfig
from hub.manifest import Manifest
from hub.registry.service import Actor, Registry
from hub.registry.values import Version

from ..svg import Heat, heat_map, meter
from .changes import MODULE_ORDER, ChangesView, view_changes
from .formats import number_text
from .grid import place_of, rows_and_columns

MAX_ROWS = 48
MAX_LISTED = 600


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One module: the Frobenius norm of its update (scaling included) and how many ranks it really uses."""

    module: str
    norm: float
    effective_rank: float
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
class KindRow:
    """All modules of one kind together.  share: of the adapter's parameters."""

    kind: str
    modules: int
    ranks: str
    parameters: int
    share: float
    meter: Markup


def draw_layers(rows: Sequence[LayerRow]) -> LayersView:
    """Draw the map of a version's modules."""
    cells = {}
    places = {row.module: place_of(row.module) for row in rows}
    for row in rows:
        place = places[row.module]
        used = f"effective rank {number_text(row.effective_rank)} of {row.rank}"
        cells[place.row, place.column] = Heat(row.norm, f"{row.module}\n‖ΔW‖ {number_text(row.norm)}, {used}")
    names, columns = rows_and_columns(places.values(), MODULE_ORDER)
    top = max((row.norm for row in rows), default=0.0)
    title = f"Norm of the update by layer and module; the largest is {number_text(top)}"
    return LayersView(
        heat_map(names[:MAX_ROWS], columns, cells, title=title, top=top),
        tuple(rows[:MAX_LISTED]),
        top,
        max(0, len(rows) - MAX_LISTED),
    )


def module_kinds(manifest: Manifest, config: LoraConfig) -> tuple[KindRow, ...]:
    """Return the adapter's parameters by kind of module (`q_proj`, …), from the tensor table alone."""
    try:
        keys = parse_keys(
            [tensor.name for tensor in manifest.tensors], bias=config.bias, modules_to_save=config.modules_to_save
        )
    except InvalidAdapter:
        return ()  # a version from before a rule that it breaks: its page still opens
    counts: dict[str, int] = {}
    modules: dict[str, set[str]] = {}
    for key, tensor in zip(keys, manifest.tensors, strict=True):
        kind = place_of(key.module).row
        counts[kind] = counts.get(kind, 0) + _numel(tensor.shape)
        modules.setdefault(kind, set()).add(key.module)
    total = sum(counts.values()) or 1
    names, _ = rows_and_columns((place_of(key.module) for key in keys), MODULE_ORDER)
    return tuple(_kind_row(kind, modules[kind], counts[kind], counts[kind] / total, config) for kind in names)


def _kind_row(kind: str, modules: set[str], parameters: int, share: float, config: LoraConfig) -> KindRow:
    ranks = sorted({config.rank_for(module) for module in modules})
    shown = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]}"
    return KindRow(kind, len(modules), shown, parameters, share, meter(share, title=f"{share:.0%} of the parameters"))


def _numel(shape: Iterable[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def layers(_registry: Registry, _actor: Actor, _version: Version) -> LayersView:
    """Return the layer map of a version."""
    return LayersView(None, note="The layer map of this version has not been computed.")


def changes(_registry: Registry, _actor: Actor, before: Version, after: Version) -> ChangesView:
    """Return what differs between two versions of an adapter."""
    return view_changes(
        before.manifest, after.manifest, (), note="The modules of these versions have not been compared."
    )
