"""Make a list of the lines `name: what it is` in a docstring, which is how this project writes parameters."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_FIELD = re.compile(r"^(\w+(?:, \w+)*): (?=\S)")


class Parameters(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return the docstring with its fields as list items, each set apart from what stands around it."""
    lines: list[str] = []
    in_field = False
    for line in text.splitlines():
        if _FIELD.match(line):
            if not in_field:
                lines.append("")
            line = "- " + _FIELD.sub(lambda found: f"`{found[1]}`: ", line)
            in_field = True
        elif in_field and line.strip() and not line.startswith(" "):
            lines.append("")
            in_field = False
        elif not line.strip():
            in_field = False
        lines.append(line)
    return "\n".join(lines)
