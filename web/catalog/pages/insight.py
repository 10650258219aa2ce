"""What was computed of versions after they were published, as the pages show it: `recipes.py` says what, and how.

A page computes none of it.  Where a value isn't there yet, the page says so; where it can't be had, it says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hub.errors import HubError
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE
from hub.registry.derived.recipe import Recipe
from hub.registry.service import Actor, Registry
from hub.registry.values import Version

from ..cards import MAX_CARD_BYTES, Heading
from ..recipes import CARD, CARD_FILE, CHANGES, LAYERS, PAGE_PREFIX, PARAMETERS, RAW_PREFIX, WEIGHTS
from .changes import ChangesView, ModuleMove, view_changes
from .layers import LayerRow, LayersView, ParametersView, WeightsView, draw_layers, view_parameters
from .links import version_url

NOT_YET = "This is computed once, soon after a push. Load the page again in a moment."
TOO_MANY = "Many comparisons wait to be computed. Load the page again in a few minutes."


class NotThere(Exception):
    """Why a page goes without a value."""


@dataclass(frozen=True, slots=True)
class CardView:
    """A card as the page shows it.  html: safe to put into a page.  note, problem: what to say above it, or empty."""

    html: Markup
    headings: tuple[Heading, ...] = ()
    note: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Insights:
    """The values that `actor` may see: those of files that it may read."""

    registry: Registry
    actor: Actor

    def layers(self, version: Version) -> LayersView:
        """Return the layer map of a version; a note instead where it can't be had."""
        try:
            return draw_layers([LayerRow(*row) for row in self._of_weights(LAYERS, version)])
        except NotThere as reason:
            return LayersView(None, note=str(reason))

    def weights(self, version: Version) -> WeightsView:
        """Return what a look at every weight found."""
        try:
            found = self._of_weights(WEIGHTS, version)
        except NotThere as reason:
            return WeightsView(note=f"Whether all weights are finite: {reason}")
        names = {name: tuple(found[name]) for name in ("nonfinite", "zero_modules")}
        return WeightsView(**(found | names))

    def parameters(self, version: Version) -> ParametersView:
        """Return the parameters by kind and by layer."""
        try:
            return view_parameters(self._of_weights(PARAMETERS, version))
        except NotThere as reason:
            return ParametersView(str(reason))

    def changes(self, before: Version, after: Version) -> ChangesView:
        """Return what differs between two versions; where the weights can't be compared, the rest with a note."""
        try:
            found = self._of_weights(CHANGES, before, after)
        except NotThere as reason:
            return view_changes(before.manifest, after.manifest, (), None, str(reason))
        moves = [ModuleMove(*row) for row in found["moves"]]
        return view_changes(before.manifest, after.manifest, moves, found["cosine"])

    def card(self, version: Version) -> CardView | None:
        """Return the card of a version, as plain text until it was rendered; None if it has none."""
        if version.manifest.file(CARD_FILE) is None:
            return None
        stored = self.registry.versions.open_file(self.actor, version.ref, CARD_FILE)
        try:
            found = self._made(CARD, version)
        except NotThere as reason:
            text = b"".join(stored.open(0, min(MAX_CARD_BYTES, stored.entry.size))).decode("utf-8", "replace")
            return CardView(Markup('<pre tabindex="0">{}</pre>').format(text), note=f"Shown as plain text. {reason}")
        headings = tuple(Heading(*each) for each in found["headings"])
        return CardView(_with_addresses(found["html"], version), headings, found["note"], found["problem"])

    def _of_weights(self, recipe: Recipe, *versions: Version) -> Any:
        """Return a value, which is the same for all who may read the files: asks that first."""
        try:
            for version in versions:
                for path in (CONFIG_FILE, WEIGHTS_FILE):
                    self.registry.versions.open_file(self.actor, version.ref, path)
        except HubError as error:
            raise NotThere(error.message) from error
        return self._made(recipe, *versions)

    def _made(self, recipe: Recipe, *versions: Version) -> Any:
        digests = [version.digest for version in versions]
        found = self.registry.derived.find(recipe, *digests)
        if found is None and not recipe.is_swept and not self.registry.derived.want(recipe, *digests):
            raise NotThere(TOO_MANY)
        if found is None or found.state == "waiting":
            raise NotThere(NOT_YET)
        if found.state == "failed":
            raise NotThere(found.reason)
        return found.value


def _with_addresses(html: str, version: Version) -> Markup:
    """Return a kept card with the addresses of the version that shows it, where it names its files."""
    home = version_url(version.adapter, version.number)
    for prefix, place in ((PAGE_PREFIX, "files"), (RAW_PREFIX, "raw")):
        html = html.replace(f'"{prefix}', f'"{home}/{place}/')
    return Markup(html)  # noqa: S704 - nh3 made it, and an address of ours has no character that HTML minds
