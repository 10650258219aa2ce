"""What the application serves, as its URL map has it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flask import Flask

CONVERTER = re.compile(r"<[a-z_]+(\([^)]*\))?:")
"""As in `<selector:revision>` and `<any(revision, commits):what>`."""


def served_routes(app: Flask) -> Iterator[tuple[str, str, str]]:
    """Yield the endpoint, the path without converters and the method of each, without HEAD and OPTIONS."""
    for rule in app.url_map.iter_rules():
        path = CONVERTER.sub("<", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield rule.endpoint, path, method
