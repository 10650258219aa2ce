"""Whether an adapter was trained for the base at hand: asked of its manifest, before a byte of weights moves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from hub.base.spec import BaseSpec
from hub.fit import report as compat
from hub.manifest import Manifest


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
        if identity is not None and identity.level == "warning":
            warnings.warn(f"{ref}: {identity.line()}", stacklevel=4)
