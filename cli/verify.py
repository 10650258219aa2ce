"""`lorahub verify`: is what lies in the cache what was published?"""

from __future__ import annotations

from pathlib import Path

import click

from hub.formats.sizes import size_text
from hub.refs import AdapterRef

from .terminal.options import REF, registry_option
from .terminal.output import Output, printing_json
from .terminal.progress import CliObserver


@click.command()
@click.argument("ref", type=REF)
@click.option("--in", "folder", type=click.Path(path_type=Path, exists=True), help="Verify this folder instead.")
@registry_option
@printing_json
def verify(ref: AdapterRef, folder: Path | None, registry: str | None, out: Output) -> None:
    """Hash every file of a cached version again and compare it with the version's manifest.

    A damaged version is thrown away, so that the next pull fetches it anew.  With --in, a folder is compared, and
    nothing is removed.  Exits 6, and names them, if files are missing, changed, or foreign.
    """
    from hub.api import client_settings
    from hub.client import placing
    from hub.client.cache import Cache
    from hub.client.cache_care import verify_version
    from hub.client.sync import resolve

    settings, observer = client_settings(registry), CliObserver()
    info = resolve(ref, settings, observer)
    verified = placing.check(info, folder) if folder else verify_version(info, Cache(settings.cache), observer)
    if out.as_json:
        out.json({"ref": str(info.ref), "digest": info.digest, "files": len(verified), "verified": True})
    else:
        total = sum(entry.size for entry in verified)
        out.line(f"{info.ref}: {len(verified)} files, {size_text(total)}, all as published")
