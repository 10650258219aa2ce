"""`lorahub serve`: the registry, its API and its catalog, in one process tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict, Unpack

import click

HELP = """Start the registry, its API and its web catalog.

Without flags everything lives in one folder: an SQLite file and the blobs.  The first start creates the user `admin`,
prints its token once, and stores it for this machine's command line, so `lorahub push` works at once.

Prints `lorahub is ready: URL` on stdout when it listens; logs go to stderr.  SIGTERM lets running transfers finish.
"""


class Flags(TypedDict):
    """What the command line says of the server; None where it says nothing."""

    host: str | None
    port: int | None
    data: Path | None
    database: str | None
    store: str | None
    workers: int | None
    public_url: str | None
    upstream: str | None


@click.command("serve", help=HELP)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes any free one.  [default: 8750]")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder of the database and the blobs.")
@click.option("--database", help="sqlite:///path or postgresql://user@host/name.  [default: in the data folder]")
@click.option("--store", help="Folder, or s3://bucket/prefix.  [default: in the data folder]")
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes.  [default: 1]")
@click.option("--public-url", help="Address that users see, if a proxy stands in front.")
@click.option("--upstream", help="Hugging Face Hub to fetch base models through.  [default: off]")
def serve(**flags: Unpack[Flags]) -> None:
    from hub.errors import Unavailable
    from hub.settings import ServerSettings, config_path

    try:
        from hub.web.server.log import configure_logging
        from hub.web.server.serve import serve as run
    except ImportError as error:
        raise Unavailable(
            f"The server's packages are not installed ({error.name} is missing). Install lorahub-registry[server]."
        ) from error

    configure_logging()
    settings = ServerSettings.from_env(**flags)
    run(settings, config_path(os.environ), lambda line: click.echo(line))
