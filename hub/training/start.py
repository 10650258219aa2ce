"""Where a further round of training starts: a version of the registry, or a PEFT folder on this disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hub.api import client_settings
from hub.client.checking import check_source
from hub.client.sources import parse_source
from hub.client.sync import fetch, resolve
from hub.refs import AdapterRef
from hub.training.base import TrainingBase


@dataclass(frozen=True, slots=True)
class Start:
    """ref: the version, fixed (`@v1`, never `@latest`), or None for a folder."""

    folder: Path
    ref: AdapterRef | None


def find_start(text: str | os.PathLike[str] | AdapterRef, base: TrainingBase, registry: str | None) -> Start:
    """Fetch what training goes on from, and check it against the base: PEFT drops what doesn't fit without a word.

    Raises Incompatible, and what `hub.pull` raises.
    """
    source, settings = parse_source(text), client_settings(registry)
    check_source(source, base.spec, settings).raise_if_bad()
    if isinstance(source, Path):
        return Start(source, None)
    info = resolve(source, settings)
    return Start(fetch(info, settings), info.ref)
