"""`lorahub verify`: is what lies in the cache what was published?"""

from __future__ import annotations

import click

from hub.refs import AdapterRef

from .terminal.options import REF, registry_option
from .terminal.output import Output, printing_json, size_text
from .terminal.progress import CliObserver


@click.command()
@click.argument("ref", type=REF)
@registry_option
@printing_json
def verify(ref: AdapterRef, registry: str | None, out: Output) -> None:
    """Hash every file of a cached version again and compare it with the version's manifest.

    A damaged file is thrown away, so that the next pull fetches it anew.  Exits 6 if there was one.
    """
    from hub.api import client_settings
    from hub.client.cache import Cache
    from hub.client.cache_care import verify_version
    from hub.client.sync import resolve

    settings, observer = client_settings(registry), CliObserver()
    info = resolve(ref, settings, observer)
    verified = verify_version(info, Cache(settings.cache), observer)
    if out.as_json:
        out.json({"ref": str(info.ref), "digest": info.digest, "files": len(verified), "verified": True})
    else:
        total = sum(entry.size for entry in verified)
        out.line(f"{info.ref}: {len(verified)} files, {size_text(total)}, all as published")
