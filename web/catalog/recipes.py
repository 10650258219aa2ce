"""What the catalog shows of a version and does not compute in a request: maps, counts, the rendered card.

Each function runs once per content, in a process that can be killed (hub.registry.derived), and returns what JSON can
say.  A recipe's version goes up when its function gives other results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any
from urllib.parse import quote

from hub.adapter.deltas import AdapterWeights
from hub.adapter.diff import diff, layer_map
from hub.adapter.files import read_weights_header
from hub.adapter.weight_scan import scan_weights
from hub.errors import HubError
from hub.fit.parameters import SummaryRow, summarize
from hub.formats.readable import Readable
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE
from hub.registry.derived.recipe import Recipe

from .cards import MAX_CARD_BYTES, render_card

CARD_FILE = "README.md"
PAGE_PREFIX, RAW_PREFIX = "/-/page/", "/-/raw/"
"""Stand in a kept card for the addresses of the version that shows it: one content may be several versions."""

_HERE = "hub.web.catalog.recipes"
_ADAPTER = (CONFIG_FILE, WEIGHTS_FILE)
_MB = 10**6
CARD = Recipe("card", 1, f"{_HERE}:card", cpu_seconds=10, memory_bytes=512 * _MB, needs=(CARD_FILE,))
PARAMETERS = Recipe("parameters", 1, f"{_HERE}:parameters", cpu_seconds=20, memory_bytes=1_000 * _MB, needs=_ADAPTER)
WEIGHTS = Recipe("weights", 1, f"{_HERE}:weights", cpu_seconds=30, memory_bytes=1_000 * _MB, needs=_ADAPTER)
LAYERS = Recipe("layers", 1, f"{_HERE}:layers", 60, 2_000 * _MB, needs=_ADAPTER, imports=("numpy",))
CHANGES = Recipe("changes", 1, f"{_HERE}:changes", 60, 2_000 * _MB, _ADAPTER, ("numpy",), is_swept=False)
RECIPES = (CARD, PARAMETERS, WEIGHTS, LAYERS, CHANGES)

MAX_WEIGHTS_BYTES = 2_000 * 1000 * 1000
MAX_MAP_FLOPS = 400e9
"""Of one map: what a processor of 2020 does in about half a minute."""

MAX_MODULES = 20_000

Files = Mapping[str, Readable]


class PlaceholderLinks:
    """Addresses of a version's files that hold for whatever version shows the card: see `cards.FileLinks`."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def page(self, path: str) -> str | None:
        return PAGE_PREFIX + quote(path) if path in self._files else None

    def raw(self, path: str) -> str | None:
        return RAW_PREFIX + quote(path) if path in self._files else None


def card(files: Files) -> dict[str, Any]:
    """Return the README as HTML, with its headings."""
    rendered = render_card(files[CARD_FILE].read(0, MAX_CARD_BYTES + 1), PlaceholderLinks(files))
    return {
        "html": str(rendered.html),
        "note": rendered.note,
        "problem": rendered.front.problem,
        "headings": [[heading.level, heading.text, heading.anchor] for heading in rendered.headings],
    }


def parameters(files: Files) -> dict[str, Any]:
    """Return the parameters by kind of module and by layer."""
    found = summarize(AdapterWeights.open(_checked(files)).content)
    return {"line": found.line(), "kinds": _rows(found.by_kind()), "layers": _rows(found.by_layer())}


def weights(files: Files) -> dict[str, Any]:
    """Return the tensors that hold a NaN or an infinity, and the modules whose update is zero: the first 50 of each."""
    _check_size(files)
    report = scan_weights(files[WEIGHTS_FILE], read_weights_header(files))
    return {
        "nonfinite": report.nonfinite[:50],
        "nonfinite_count": len(report.nonfinite),
        "zero_modules": report.zero_modules[:50],
        "zero_count": len(report.zero_modules),
        "modules": report.modules,
    }


def layers(files: Files) -> list[list[Any]]:
    """Return [module, norm, effective rank, rank] of every module; None for a number that there is not."""
    _check_cost(AdapterWeights.open(_checked(files)).map_flops())
    cells = layer_map(files).cells
    return [[cell.module, _number(cell.norm), _number(cell.effective_rank), cell.rank] for cell in cells]


def changes(before: Files, after: Files) -> dict[str, Any]:
    """Return how far each module moved between two versions."""
    _check_cost(sum(AdapterWeights.open(_checked(files)).map_flops() for files in (before, after)))
    found = diff(before, after)
    moves = [
        [each.module, _number(each.norm_before), _number(each.norm_after), _number(each.cosine)]
        for each in found.modules
    ]
    return {"cosine": _number(found.mean_cosine), "moves": moves}


def _checked(files: Files) -> Files:
    _check_size(files)
    modules = len(read_weights_header(files).tensors)
    if modules > 2 * MAX_MODULES:
        raise HubError(f"The weights have {modules:,} tensors; up to {2 * MAX_MODULES:,} are looked at here.")
    return files


def _check_size(files: Files) -> None:
    size = files[WEIGHTS_FILE].size
    if size > MAX_WEIGHTS_BYTES:
        raise HubError(f"The weights have {size:,} bytes; up to {MAX_WEIGHTS_BYTES:,} are looked at here.")


def _check_cost(flops: float) -> None:
    if flops > MAX_MAP_FLOPS:
        raise HubError(
            f"Its rank and size make this {flops / 1e9:,.0f} billion operations; up to {MAX_MAP_FLOPS / 1e9:,.0f} are "
            "spent on a map here. Compute it yourself: lorahub diff"
        )


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _rows(rows: tuple[SummaryRow, ...]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
