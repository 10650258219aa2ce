"""Whether an adapter was trained for the base at hand: asked of its manifest, before a byte of weights moves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from hub.base.spec import BaseSpec
from hub.client.recorded import recorded_base
from hub.fit import report as compat
from hub.manifest import Manifest
from hub.settings import ClientSettings


@dataclass(frozen=True)
class BaseCheck:
    """spec: what is known of the base, or None.  strict: refuse other weights of equal shapes; else warn."""

    spec: BaseSpec | None
    strict: bool = True

    def manifest(self, ref: str, manifest: Manifest) -> None:
        """Raise Incompatible or Unsupported unless `ref` fits; warn of other weights if not strict."""
        if self.spec is None:
            return
        report = compat.check(manifest, self.spec, strict=self.strict, source=f"hub.pull({ref!r})")
        report.raise_if_bad()
        identity = report.find("base")
        if identity is not None:
            _warn(ref, identity)

    def folder(self, ref: str, folder: Path, settings: ClientSettings | None) -> None:
        """The same for an adapter's folder, by the base that is recorded of it; its fit is asked of the modules.

        Raises Incompatible for another base, InvalidAdapter for a record that can't be read.
        """
        recorded = recorded_base(folder, settings.cache if settings else None)
        if self.spec is None or recorded is None:
            return
        identity = compat.check_identity(recorded, self.spec, self.strict)
        compat.CompatReport((identity,)).raise_if_bad()
        _warn(ref, identity)


def _warn(ref: str, identity: compat.Finding) -> None:
    if identity.level == "warning":
        warnings.warn(f"{ref}: {identity.line()}", stacklevel=5)
