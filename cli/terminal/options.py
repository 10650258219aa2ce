"""What several commands take: refs and names as argument types, and the registry's address."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar

import click
from click.shell_completion import CompletionItem

from hub.client.sources import Source, parse_source
from hub.errors import HubError, InvalidRef
from hub.refs import AdapterName, AdapterRef

P = ParamSpec("P")
R = TypeVar("R")


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


class LoadFlags(TypedDict):
    """How a command is told to load a model."""

    no_quantize: bool
    device: str
    registry: str | None


class Loading(TypedDict):
    """The same, as `hub.load` takes it."""

    quantize: Literal["nf4"] | None
    device: str
    registry: str | None


def load_options(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command take how its model is loaded: `**flags: Unpack[LoadFlags]`."""
    quantize = click.option("--no-quantize", is_flag=True, help="Load the base as it is stored, not in 4 bit.")
    device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
    return quantize(device(registry_option(command)))


def loading(flags: LoadFlags) -> Loading:
    quantize: Literal["nf4"] | None = None if flags["no_quantize"] else "nf4"
    return {"quantize": quantize, "device": flags["device"], "registry": flags["registry"]}


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
