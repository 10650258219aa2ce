"""Sizes as people read them."""

from __future__ import annotations


def size_text(size_bytes: int) -> str:
    """`1843200` -> `1.8 MB`: powers of a thousand, as disks and browsers count."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"
