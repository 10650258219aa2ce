"""Whether an adapter was trained for the base at hand: asked of its manifest, before a byte of weights moves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from hub.base_spec import BaseMatch, BaseSpec, compare_identity
from hub.errors import Incompatible
from hub.manifest import BaseIdentity, Manifest


@dataclass(frozen=True)
class BaseCheck:
    """spec: what is known of the base.  strict: refuse other weights of equal shapes; else warn."""

    spec: BaseSpec | None
    strict: bool = True

    def manifest(self, ref: str, manifest: Manifest) -> None:
        """Raise Incompatible if `ref` was trained for another base; warn instead if not strict."""
        self.identity(ref, manifest.base)

    def identity(self, ref: str, recorded: BaseIdentity) -> None:
        if self.spec is None or compare_identity(recorded, self.spec) is not BaseMatch.OTHER_WEIGHTS:
            return
        trained_on = f"{recorded.id}" if recorded.id else "another model"
        message = (
            f"{ref} was trained on {trained_on}, and this base has the same shapes and other weights: it would run, "
            "and say something else than it was trained to. Load the base that it was trained on, or pass "
            "strict=False to run it here all the same."
        )
        if self.strict:
            raise Incompatible(message, ref=ref, trained_on=recorded.id)
        warnings.warn(message, stacklevel=4)
