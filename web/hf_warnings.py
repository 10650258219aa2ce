"""What stock clients are told beside the answer: `X-HF-Warning`, which `hf` and PEFT print once per topic."""

from __future__ import annotations

from flask import Response

from hub.refs import AdapterName
from hub.registry.values import Yanked

from .hf_errors import warn


def warn_of(response: Response, name: AdapterName, version: int | None, yanked: Yanked | None) -> Response:
    """Say that a version was yanked, and why.  The topic names the version: each one is told of."""
    if yanked is None or version is None:
        return response
    text = f"{name} v{version} was yanked: {yanked.reason.rstrip('.')}. See the other versions before you use it."
    return warn(response, f"yanked {name} v{version}", text)
