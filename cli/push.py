"""`lorahub push`: a folder in, the ref of a version out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import click

from hub.adapter.publication import Publication, Said
from hub.formats.sizes import size_text
from hub.refs import AdapterName

from .terminal.options import NAME, REF, registry_option
from .terminal.output import Output, note, printing
from .terminal.progress import CliObserver


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("name", type=NAME)
@click.option("--base", metavar="PATH_OR_ID", help="Model that it was trained on: checked, and its fingerprint kept.")
@click.option("--task", help="What the adapter does, e.g. qa.")
@click.option("--alias", help="Point this alias at the new version, e.g. prod.")
@click.option("-m", "--message", default="", help="What changed.")
@click.option("--private/--public", default=None, help="Who may read it.  [default: the namespace's way]")
@click.option("--trained-from", type=REF, multiple=True, help="Version that training started from.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, send nothing.")
@registry_option
@printing
def push(
    folder: Path,
    name: AdapterName,
    base: str | None,
    dry_run: bool,
    registry: str | None,
    out: Output,
    **said: Unpack[Said],
) -> None:
    """Publish the PEFT adapter in FOLDER as the next version of NAME, e.g. `task/qa`.

    Prints the ref of the version.  Pushing the same content again gives the same version.  Run an
    interrupted push again, and it resumes where it stopped.
    """
    from hub.api import push_folder

    publication = Publication.parse(**said)
    observer = CliObserver()
    if dry_run:
        _dry_run(folder, name, base, out, observer)
        return
    pushed = push_folder(folder, name, publication, base=base, registry=registry, observer=observer)
    if out.as_json:
        extra = {"created": pushed.created, "sent_bytes": pushed.sent_bytes, "left_out": _left_out(pushed.left_out)}
        out.json(dict(pushed.version.raw) | extra)
        return
    if not pushed.created:
        note(f"{pushed.version.ref} has this very content already: nothing was published.")
    out.line(str(pushed.version.ref))


def _dry_run(folder: Path, name: AdapterName, base: str | None, out: Output, observer: CliObserver) -> None:
    from hub.api import prepare_push

    prepared = prepare_push(folder, base=base, observer=observer)
    manifest = prepared.manifest
    if out.as_json:
        files = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in manifest.files]
        left_out = _left_out(prepared.scan.left_out)
        out.json({"adapter": str(name), "digest": manifest.digest, "files": files, "left_out": left_out})
        return
    note(f"Dry run: nothing is sent. {name} would get {size_text(manifest.size_bytes)}:")
    out.rows(("path", "size", "sha256"), [(f.path, size_text(f.size), f.sha256) for f in manifest.files])


def _left_out(items: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    return [{"path": path, "reason": reason} for path, reason in items]
