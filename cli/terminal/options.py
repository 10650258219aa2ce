"""What several commands take: refs and names as argument types, and the registry's address."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import CompletionItem

from hub.client.sources import Source, parse_source
from hub.errors import HubError, InvalidRef
from hub.refs import AdapterName, AdapterRef


class NameType(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """`namespace/name`, without a selector."""

    name = "namespace/name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AdapterName:
        if isinstance(value, AdapterName):
            return value
        text = str(value).removeprefix("hf://")
        if "@" in text:
            raise InvalidRef(f"{text[:80]!r} names a version; an adapter is meant here: {text.partition('@')[0][:80]}")
        return AdapterName.parse(text)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _known(incomplete, with_versions=False)


class RefType(click.ParamType):  # type: ignore[type-arg]
    """`namespace/name[@vN|@alias|@sha256:…]`."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AdapterRef:
        return value if isinstance(value, AdapterRef) else AdapterRef.parse(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _known(incomplete, with_versions="@" in incomplete)


class SourceType(RefType):
    """A ref, or the folder of an adapter on this disk."""

    name = "ref-or-folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Source:  # type: ignore[override]
        return parse_source(value)


NAME, REF, SOURCE = NameType(), RefType(), SourceType()

registry_option = click.option(
    "--registry", metavar="URL", help="The registry's address.  [default: LORAHUB_ENDPOINT, else the last login]"
)


def _known(incomplete: str, with_versions: bool) -> list[CompletionItem]:
    """Complete from what the cache knows: a completion must not wait for a network."""
    from hub.client.cache import Cache
    from hub.client.offline import KnownVersions
    from hub.settings import ClientSettings

    try:
        settings = ClientSettings.from_env(os.environ)
        known = KnownVersions(Cache(settings.cache), settings.endpoint)
        names = [str(name) for name in known.adapters()]
        if with_versions:
            name = AdapterName.parse(incomplete.partition("@")[0])
            selectors = [*(f"v{info.version}" for info in known.versions(name)), *known.aliases(name)]
            names = [f"{name}@{selector}" for selector in selectors]
    except HubError:
        return []  # half a ref, or a broken config file: there is nothing to offer
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
