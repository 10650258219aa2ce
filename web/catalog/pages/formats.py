"""Numbers, sizes and times as a reader wants them; every function here is a template filter."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from flask import Flask
from markupsafe import Markup

from hub.formats.sizes import size_text

_UNITS = (("year", 31_557_600), ("month", 2_629_800), ("week", 604_800), ("day", 86_400), ("hour", 3_600))
_DIGITS = re.compile(r"(\d{1,18})", re.ASCII)


def count_text(count: int) -> str:
    """`1234` -> `1.2k`; exact below a thousand."""
    value, unit = float(count), ""
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5 or unit == "T":
            break
        value /= 1000
    if unit == "":
        return str(count)
    return f"{value:.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}"


def number_text(value: float) -> str:
    """`16.0` -> `16`, `0.5` -> `0.5`, `4194304` -> `4,194,304`."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """`3 days ago`; a moment that is still to come (a clock that is off) is `just now`."""
    seconds = ((now or datetime.now(UTC)) - _aware(moment)).total_seconds()
    for unit, length in _UNITS:
        if seconds >= length * (2 if unit == "week" else 1):
            number = int(seconds // length)
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    return f"{int(seconds // 60)} min ago" if seconds >= 60 else "just now"


def time_tag(moment: datetime) -> Markup:
    """Return `<time>` that says how long ago, with the exact moment on hover."""
    exact = _aware(moment).astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact.isoformat(timespec="seconds"), exact.strftime("%Y-%m-%d %H:%M UTC"), ago(exact)
    )


def rfc3339(moment: datetime) -> str:
    return _aware(moment).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def day_text(moment: datetime) -> str:
    day = _aware(moment).astimezone(UTC)
    return f"{day.day} {day:%b %Y}"


def method_text(method: str) -> str:
    """`dora+rslora` -> `DoRA + rsLoRA`."""
    names = {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA"}
    return " + ".join(names.get(part, part) for part in method.split("+"))


def about_text(text: str) -> Markup:
    """Return a description with its `code` in code type; every other mark of Markdown stays as it was written."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return Markup("{}").format(text)
    marked = [
        Markup("<code>{}</code>").format(part) if odd % 2 else Markup("{}").format(part)
        for odd, part in enumerate(parts)
    ]
    return Markup("").join(marked)


def base_name(base: str) -> str:
    """`org/model` -> `model`, where there is little room."""
    return base.rstrip("/").rpartition("/")[2] or base


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort `layers.10` after `layers.9`."""
    parts = _DIGITS.split(text)  # texts at even places, numbers at odd ones
    return tuple((0, int(part), "") if place % 2 else (1, 0, part) for place, part in enumerate(parts))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def install_filters(app: Flask) -> None:
    """Give every template these functions."""
    filters = (
        size_text,
        count_text,
        number_text,
        ago,
        time_tag,
        rfc3339,
        day_text,
        method_text,
        about_text,
        base_name,
    )
    app.jinja_env.filters.update({function.__name__: function for function in filters})
