"""`lorahub show`: an adapter with its versions, or one version with its files."""

from __future__ import annotations

import click

from hub.client.records import AdapterInfo, Deprecation, VersionInfo
from hub.formats.sizes import size_text
from hub.refs import AdapterRef

from .terminal.options import registry_option
from .terminal.output import Output, date_text, printing
from .terminal.progress import CliObserver


@click.command()
@click.argument("ref", metavar="NAME[@VERSION]")
@registry_option
@printing
def show(ref: str, registry: str | None, out: Output) -> None:
    """Show the versions and aliases of an adapter; with @v3, @prod or @latest, that one version and its files."""
    from hub.api import client_settings
    from hub.client.api import Client

    parsed = AdapterRef.parse(ref)
    settings = client_settings(registry)
    if "@" in ref:
        from hub.client.sync import resolve

        _show_version(resolve(parsed, settings, CliObserver()), out)
        return
    with Client(settings) as client:
        _show_adapter(client.adapter(parsed.adapter), client.versions(parsed.adapter), out)


def _show_adapter(adapter: AdapterInfo, versions: tuple[VersionInfo, ...], out: Output) -> None:
    if out.as_json:
        out.json({"adapter": dict(adapter.raw), "versions": [dict(version.raw) for version in versions]})
        return
    if out.quiet:
        out.lines([str(version.ref) for version in versions])
        return
    out.fields(
        {
            "name": adapter.name,
            "description": adapter.description,
            "task": adapter.task,
            "base": adapter.base.id,
            "license": adapter.license,
            "tags": adapter.tags,
            "private": "yes" if adapter.private else None,
            "gated": "yes: its files are for members" if adapter.gated else None,
            "state": _advice(adapter.deprecated),
            "downloads": adapter.downloads,
            "aliases": [f"@{item.alias} -> {item.version}" for item in adapter.aliases],
            "latest": adapter.latest,
            "drafts": _drafts(adapter),
        }
    )
    out.line("")
    header = ("version", "created", "by", "rank", "method", "size", "aliases", "state", "message")
    out.rows(header, [_row(version) for version in versions])


def _drafts(adapter: AdapterInfo) -> list[str]:
    """`refs/draft/mia: There is no adapter_model.safetensors …`, one per draft visible to us."""
    drafts = adapter.raw.get("drafts") or []
    return [f"{draft.get('ref')}: {draft.get('problem')}" for draft in drafts if isinstance(draft, dict)]


def _row(version: VersionInfo) -> tuple[object, ...]:
    return (
        f"v{version.version}",
        date_text(version.created_at),
        version.created_by,
        version.rank,
        version.method,
        size_text(version.size_bytes),
        [f"@{alias}" for alias in version.aliases],
        _state(version),
        version.message,
    )


def _state(version: VersionInfo) -> str:
    if version.yanked:
        return f"yanked: {version.yanked.reason}"
    if version.raw.get("branch"):
        return f"on the branch {version.raw['branch']}"
    return _advice(version.deprecated)


def _advice(deprecated: Deprecation | None) -> str:
    if deprecated is None:
        return ""
    return f"deprecated: {deprecated.reason}" + (f" (use {deprecated.successor})" if deprecated.successor else "")


def _metrics(version: VersionInfo) -> list[str]:
    """`accuracy 0.93 (held-out)`, one per metric that publishers have attached."""
    metrics = version.raw.get("metrics") or []
    return [
        f"{metric.get('name')} {metric.get('value')}" + (f" ({metric['dataset']})" if metric.get("dataset") else "")
        for metric in metrics
        if isinstance(metric, dict)
    ]


def _show_version(version: VersionInfo, out: Output) -> None:
    if out.as_json:
        out.json(dict(version.raw))
        return
    if out.quiet:
        out.line(str(version.ref))
        return
    manifest = version.manifest
    out.fields(
        {
            "ref": version.ref,
            "state": _state(version),
            "digest": f"sha256:{version.digest}",
            "created": f"{date_text(version.created_at)} by {version.created_by}",
            "message": version.message,
            "task": version.task,
            "base": manifest.base.id if manifest else None,
            "base known by": _fingerprints(version),
            "method": version.method,
            "rank": version.rank,
            "alpha": version.alpha,
            "targets": version.target_modules,
            "dtype": version.dtype,
            "parameters": f"{version.parameters:,}" if version.parameters else None,
            "trained from": version.raw.get("trained_from"),
            "merged from": version.raw.get("merged_from"),
            "metrics": _metrics(version),
            "aliases": [f"@{alias}" for alias in version.aliases],
            "downloads": version.downloads,
        }
    )
    if manifest:
        out.line("")
        rows = [(file.path, size_text(file.size), file.sha256) for file in manifest.files]
        out.rows(("file", "size", "sha256"), rows)


def _fingerprints(version: VersionInfo) -> str | None:
    if version.manifest is None or version.manifest.base.weights is None:
        return None
    return "fingerprint of its weights"
