"""Charts as inline SVG, drawn on the server: no script, no style attribute, colours by class from the style sheet.

Every drawing says in words what it shows; where single values matter, the page has them in a table too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup, escape

HEAT_STEPS = 10
"""Shades of the heat map: classes heat-0 … heat-9 of the style sheet."""

_BADGE_CHAR_WIDTH = 6.6
_BADGE_COLOURS = {"version": "#0b6b62", "yanked": "#a3341f", "none": "#6b6b66"}


@dataclass(frozen=True, slots=True)
class Heat:
    """One cell of a heat map.  value: >= 0, decides the shade.  label: what the tooltip says."""

    value: float
    label: str


def heat_step(value: float, top: float) -> int:
    """Return the shade of `value` on a scale from 0 to `top`: 0 for nothing, 1 … 9 for the ninths of the scale."""
    if value <= 0 or top <= 0 or not math.isfinite(value):
        return 0
    return min(HEAT_STEPS - 1, 1 + int(value / top * (HEAT_STEPS - 1)))


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Heat],
    *,
    title: str,
    top: float | None = None,
    width: int = 740,
) -> Markup:
    """Draw `cells` (keyed by row and column) as a grid: rows down, columns across, a cell that isn't there left blank.

    top: the value of the darkest shade; the largest value if None.  width: what the cells should fill, in pixels.
    """
    gap = 2
    left = 8 + max((len(row) for row in rows), default=0) * 6.8
    side = max(12, min(32, int((width - left) / max(1, len(columns))) - gap))
    drawn, height = left + len(columns) * (side + gap), len(rows) * (side + gap) + 22
    highest = top if top is not None else max((cell.value for cell in cells.values()), default=0.0)
    parts = [_open(drawn, height, title, "heatmap")]
    for y, row in enumerate(rows):
        middle = y * (side + gap) + side / 2 + 4
        parts.append(f'<text class="axis" x="{left - 8:.1f}" y="{middle:.1f}" text-anchor="end">{escape(row)}</text>')
        for x, column in enumerate(columns):
            cell = cells.get((row, column))
            parts.append(_cell(cell, left + x * (side + gap), y * (side + gap), side, highest))
    every = 1 if side >= 20 or len(columns) <= 12 else 5
    for x, column in enumerate(columns):
        if x % every == 0:
            place = left + x * (side + gap) + side / 2
            parts.append(
                f'<text class="axis" x="{place:.1f}" y="{height - 6:.1f}" text-anchor="middle">{escape(column)}</text>'
            )
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - every text in it went through escape


def _cell(cell: Heat | None, x: float, y: float, side: int, top: float) -> str:
    box = f'x="{x:.1f}" y="{y}" width="{side}" height="{side}" rx="2"'
    if cell is None:
        return f'<rect class="heat-none" {box}/>'
    return f'<rect class="heat-{heat_step(cell.value, top)}" {box}><title>{escape(cell.label)}</title></rect>'


def bars(points: Sequence[tuple[date, int]], *, title: str, unit: str = "downloads") -> Markup:
    """Draw one bar per day, the tallest filling the height, with the first and last day below and the peak above."""
    width, height, floor = 320.0, 96.0, 78.0
    peak = max((count for _, count in points), default=0)
    step = width / max(1, len(points))
    parts = [_open(width, height, title, "bars")]
    parts.append(f'<line class="rule" x1="0" y1="{floor}" x2="{width}" y2="{floor}"/>')
    for index, (day, count) in enumerate(points):
        tall = 0.0 if peak == 0 else (floor - 16) * count / peak
        box = f'x="{index * step:.2f}" y="{floor - tall:.2f}" width="{max(1.0, step - 1.5):.2f}" height="{tall:.2f}"'
        parts.append(f'<rect class="bar" {box}><title>{day.isoformat()}: {count:,} {escape(unit)}</title></rect>')
    if points:
        parts.append(f'<text class="axis" x="0" y="{height - 4}">{_day(points[0][0])}</text>')
        parts.append(f'<text class="axis" x="{width}" y="{height - 4}" text-anchor="end">{_day(points[-1][0])}</text>')
        parts.append(f'<text class="axis" x="{width}" y="10" text-anchor="end">peak {peak:,} a day</text>')
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - every text in it went through escape


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def meter(value: float, *, title: str) -> Markup:
    """Draw a value from 0 to 1 as a short horizontal bar."""
    share = min(1.0, max(0.0, value))
    body = "".join(
        f'<rect class="{kind}" width="{width:.1f}" height="8" rx="2"/>'
        for kind, width in (("meter-rest", 96.0), ("meter-fill", 96 * share))
    )
    return Markup(_open(96, 8, title, "meter") + body + "</svg>")  # noqa: S704 - the title went through escape


def _open(width: float, height: float, title: str, kind: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg class="chart {kind}" {size} role="img" aria-label="{escape(title)}">'


def badge(label: str, value: str, kind: str = "version") -> str:
    """Return a stand-alone SVG badge, for a README elsewhere: `label` on grey, `value` on the colour of its kind."""
    left, right = _badge_width(label), _badge_width(value)
    said = escape(f"{label}: {value}")
    colour = _BADGE_COLOURS.get(kind, _BADGE_COLOURS["none"])
    width = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{said}">'
        f"<title>{said}</title>"
        f'<clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3c3f41"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2}" y="14">{escape(label)}</text>'
        f'<text x="{left + right / 2}" y="14">{escape(value)}</text></g></svg>'
    )


def _badge_width(text: str) -> int:
    return round(len(text) * _BADGE_CHAR_WIDTH + 12)
