"""Whether a base that was loaded is whole: every parameter came from its files, and every tensor has its place.

transformers fills what a folder lacks with random numbers and logs a table; such a model runs, and as a 4-bit copy it
would be kept.  So its report is read, and a gap is an error.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from hub.adapter.content import summarize
from hub.errors import Incompatible


def check_whole(folder: str | os.PathLike[str], model: Any, report: Mapping[str, Any]) -> None:
    """Raise Incompatible if `model` has parameters that `folder` has no weights for; warn of weights without a place.

    report: what transformers says of loading: its `missing_keys`, `mismatched_keys` and `unexpected_keys`.
    """
    shapes = {str(entry[0] if isinstance(entry, tuple) else entry) for entry in report.get("mismatched_keys", ())}
    missing = sorted({str(name) for name in report.get("missing_keys", ())} | shapes | set(_without_data(model)))
    if missing:
        raise Incompatible(
            f"{folder} is no whole {type(model).__name__}: {len(missing)} of its parameters have no weights there, and "
            f"would be random: {summarize(missing)}. Fetch the base again, or correct its config.json.",
            missing=missing[:20],
        )
    unexpected = sorted(str(name) for name in report.get("unexpected_keys", ()))
    if unexpected:
        warnings.warn(
            f"{folder}: {len(unexpected)} tensors have no place in a {type(model).__name__} of this config.json and "
            f"are left out: {summarize(unexpected)}. If they belong to the model, its config.json is another's.",
            stacklevel=2,
        )


def _without_data(model: Any) -> list[str]:
    return [name for name, value in model.named_parameters() if value.is_meta]
