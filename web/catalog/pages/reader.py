"""Gathers what each page shows: one reader per request, with the registry as its actor may see it.

Every method returns the words of one template.  Nothing here knows of requests; what was asked comes as arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.errors import FileNotFound, NotFound, VersionNotFound
from hub.refs import AdapterName
from hub.registry.service import Actor, Registry
from hub.registry.values import Query, Version

from ..recipes import CARD_FILE
from ..svg import bars
from .bases import base_tree
from .insight import CardView, Insights
from .verdicts import judge_bases
from .version import (
    DOWNLOAD_DAYS,
    MAX_PREVIEW_BYTES,
    VersionView,
    fill_days,
    is_text,
    preview,
    read_start,
    view_version,
)

MAX_TENSORS = 2_000
MAX_ALIAS_MOVES = 20
MAX_BASES = 500
FIRST_VERSIONS = 20
VERSIONS_PER_PAGE = 100

Words = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """endpoint: the registry's address, for snippets."""

    registry: Registry
    actor: Actor
    endpoint: str

    @property
    def insights(self) -> Insights:
        return Insights(self.registry, self.actor)

    def adapter(self, name: AdapterName) -> Words:
        """The adapter with its latest version; with the newest one, and its reason, where all are yanked."""
        shown = self.registry.adapters.get(self.actor, name)
        versions = self.registry.versions.list(self.actor, name)
        drafts = self.registry.lanes.drafts(self.actor, name)
        if not versions:
            return {"adapter": shown, "view": None, "versions": (), "drafts": drafts}
        view = self._view(name, shown.latest or versions[0].number, shown.private, for_card=True)
        return {
            "adapter": shown,
            "view": view,
            "drafts": drafts,
            "versions": versions,
            "shown_versions": versions[:FIRST_VERSIONS],
            "card": self._card(view.version),
            "verdicts": judge_bases(view.manifest.base, view.version.base, self.registry.bases.list(self.actor)),
            "moves": self.registry.aliases.history(self.actor, name)[:MAX_ALIAS_MOVES],
            **self._downloads(name),
        }

    def _downloads(self, name: AdapterName) -> Words:
        days = fill_days(self.registry.versions.download_history(self.actor, name, DOWNLOAD_DAYS))
        recent = sum(count for _, count in days)
        title = f"{recent:,} downloads in the last {DOWNLOAD_DAYS} days, per day"
        return {"recent": recent, "days": DOWNLOAD_DAYS, "downloads_chart": bars(days, title=title)}

    def versions(self, name: AdapterName, before: int | None) -> Words:
        """One page of versions, newest first, below number `before`."""
        every = self.registry.versions.list(self.actor, name)
        older = [each for each in every if before is None or each.number < before]
        shown = older[:VERSIONS_PER_PAGE]
        return {
            "adapter": self.registry.adapters.get(self.actor, name),
            "total": len(every),
            "shown": shown,
            "is_first": before is None,
            "before": shown[-1].number if len(older) > len(shown) else None,
        }

    def version(self, name: AdapterName, number: int) -> Words:
        """One version, and what changed since the one before it."""
        shown = self.registry.adapters.get(self.actor, name)
        versions = self.registry.versions.list(self.actor, name)
        view = self._view(name, number, shown.private)
        previous = next((other for other in versions if other.number < number), None)
        config = json.dumps(view.manifest.config, indent=2).encode()
        return {
            "adapter": shown,
            "view": view,
            "versions": versions,
            "previous": previous,
            "layers": self.insights.layers(view.version),
            "weights": self.insights.weights(view.version),
            "changes": self._changes(self._resolve(name, previous.number), view.version) if previous else None,
            "card": self._card(view.version),
            "parameters": self.insights.parameters(view.version),
            "tensors": view.manifest.tensors[:MAX_TENSORS],
            "config_json": preview("adapter_config.json", config),
        }

    def file(self, name: AdapterName, number: int, path: str) -> Words:
        """One file: a text as text, weights by their header.  Raises FileNotFound."""
        shown = self.registry.adapters.get(self.actor, name)
        view = self._view(name, number, shown.private, for_card=path == CARD_FILE)
        row = next((each for each in view.files if each.path == path), None)
        if row is None:
            raise FileNotFound(f"{view.version.ref} has no file {path[:80]!r}. Its page lists the files that it has.")
        return {
            "adapter": shown,
            "version": view.version,
            "file": row,
            "content": self._text(view.version, path) if is_text(path) else None,
            "cut": MAX_PREVIEW_BYTES if row.size > MAX_PREVIEW_BYTES else 0,
            "tensors": view.manifest.tensors[:MAX_TENSORS] if path.endswith(".safetensors") else (),
            "tensor_count": len(view.manifest.tensors),
        }

    def _text(self, version: Version, path: str) -> Any:
        stored = self.registry.versions.open_file(self.actor, version.ref, path)
        return preview(path, read_start(stored, MAX_PREVIEW_BYTES))

    def compare(self, name: AdapterName, before: int | None, after: int | None) -> Words:
        """Two versions: the newest, and the one before `after`, where none is named."""
        versions = self.registry.versions.list(self.actor, name)
        if len(versions) < 2:
            raise NotFound(f"{name} has {len(versions)} version(s): there is nothing to compare yet.")
        last = _choose(versions, after, versions[0].number)
        older = [each.number for each in versions if each.number < last]
        first = _choose(versions, before, older[0] if older else versions[-1].number)
        old, new = self._resolve(name, first), self._resolve(name, last)
        return {
            "adapter": self.registry.adapters.get(self.actor, name),
            "versions": versions,
            "before": old,
            "after": new,
            "changes": self._changes(old, new),
        }

    def bases(self) -> Words:
        known = self.registry.bases.list(self.actor)
        return {"roots": base_tree(known[:MAX_BASES]), "total": len(known)}

    def base(self, name: str) -> Words:
        """One base and its adapters, the most used first."""
        shown = self.registry.bases.get(self.actor, name)
        query = Query(having={"base": (shown.id,)}, sort="downloads", limit=50, with_facets=False)
        return {"base": shown, "page": self.registry.adapters.search(self.actor, query)}

    def _view(self, name: AdapterName, number: int, private: bool, *, for_card: bool = False) -> VersionView:
        return view_version(self._resolve(name, number, for_card=for_card), private, self.endpoint)

    def _resolve(self, name: AdapterName, number: int, *, for_card: bool = False) -> Version:
        return self.registry.versions.resolve(self.actor, name.at(number), for_card=for_card)

    def _changes(self, before: Version, after: Version) -> Any:
        return self.insights.changes(before, after)

    def _card(self, version: Version) -> CardView | None:
        return self.insights.card(version)


def _choose(versions: Sequence[Version], asked: int | None, default: int) -> int:
    if asked is None:
        return default
    if not any(each.number == asked for each in versions):
        newest = versions[0]
        raise VersionNotFound(f"{newest.adapter} has no version v{asked}; the newest is v{newest.number}.")
    return asked
