"""`lorahub list` and `lorahub search`: one table of adapters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from hub.adapter.facets import FACETS
from hub.client.records import AdapterInfo

from .terminal.options import registry_option
from .terminal.output import Output, cell, date_text, note, printing

P = ParamSpec("P")
R = TypeVar("R")
SORTS = click.Choice(["recent", "new", "downloads", "name"])


def facet_options(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command be narrowed by each facet that has a word of help."""
    for facet in reversed(FACETS):
        if facet.help:
            kind = None if facet.kind is str else facet.kind
            command = click.option(f"--{facet.name.replace('_', '-')}", type=kind, help=facet.help)(command)
    return command


@click.command("list")
@click.argument("namespace", required=False)
@click.option("--sort", type=SORTS, default="name", show_default=True)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@registry_option
@printing
def list_(namespace: str | None, sort: str, limit: int, registry: str | None, out: Output) -> None:
    """List the adapters that you may read, or those of NAMESPACE."""
    _show({"namespace": namespace, "sort": sort}, limit, registry, out)


@click.command("search")
@click.argument("text", nargs=-1)
@facet_options
@click.option("--rank-max", type=click.IntRange(1), help="Largest effective rank, e.g. vLLM's max_lora_rank.")
@click.option("--rank-min", type=click.IntRange(1), help="Smallest effective rank.")
@click.option("--size-max", type=click.IntRange(1), metavar="MB", help="Largest size of all files, in megabytes.")
@click.option("--metric", multiple=True, metavar="CONDITION", help="On an attached metric, e.g. 'accuracy>=0.9'.")
@click.option("--sort", type=SORTS, default="recent", show_default=True)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@registry_option
@printing
def search(
    text: tuple[str, ...], size_max: int | None, limit: int, registry: str | None, out: Output, **filters: Any
) -> None:
    """Search adapters by TEXT and by what they are."""
    size_bytes = None if size_max is None else size_max * 1_000_000
    _show(filters | {"text": " ".join(text), "size_max": size_bytes}, limit, registry, out)


def _show(filters: dict[str, Any], limit: int, registry: str | None, out: Output) -> None:
    from hub.api import client_settings
    from hub.client.api import Client, Search

    with Client(client_settings(registry)) as client:
        found, total = client.search_counted(Search.of(**filters), limit)
    if out.as_json:
        out.json([dict(item.raw) for item in found])
        return
    if out.quiet:
        out.lines([str(item.name) for item in found])
        return
    if not found:
        note(_nothing(filters))
        return
    out.rows(("name", "latest", "task", "base", "rank", "downloads", "updated"), [_row(item) for item in found])
    if total > len(found):
        note(f"{len(found)} of {total} are shown. See more with --limit {min(total, 10_000)}")


def _nothing(filters: dict[str, Any]) -> str:
    if len(filters) > 2:
        return "No adapter matches."
    if namespace := filters["namespace"]:
        return f"{namespace} has no adapters that you may read. Push one: lorahub push FOLDER {namespace}/NAME"
    return "There are no adapters yet. Push one: lorahub push --help"


def _row(item: AdapterInfo) -> tuple[str, ...]:
    base = cell(item.base.id or "")
    return (
        str(item.name),
        item.latest or "",
        cell(item.task),
        base if len(base) <= 40 else f"…{base[-39:]}",
        cell(item.rank),
        str(item.downloads),
        date_text(item.updated_at),
    )
