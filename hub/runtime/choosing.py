"""What a caller may say when choosing adapters, and reading it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from hub.client.sources import RefLike
from hub.errors import InvalidRequest
from hub.refs import AdapterRef

"""A registry ref (`task/qa@v2`) or the folder of a PEFT adapter (`./my-adapter`)."""

Use = RefLike | None | Mapping[RefLike, float]
"""One adapter, None for the bare base, or several with a weight each."""


def label_of(active: str | Mapping[str, float] | None) -> str:
    """Return an adapter, or a weighted sum of them, as a text."""
    if isinstance(active, Mapping):
        return " + ".join(f"{weight:g}*{ref}" for ref, weight in active.items())
    return active or "the bare base"


def rows_of(adapters: Use | Sequence[Use]) -> Sequence[Use]:
    """Return a list of rows as it is, and a single choice as a list of it alone."""
    is_list = isinstance(adapters, Sequence) and not isinstance(adapters, str)
    return adapters if is_list else [adapters]  # type: ignore[return-value,list-item]


def refs_of(uses: Iterable[Use]) -> list[RefLike]:
    """Return every ref that these choices name, each once."""
    refs: dict[str, RefLike] = {}
    for use in uses:
        for ref in use if isinstance(use, Mapping) else () if use is None else (use,):
            if not isinstance(ref, (str, os.PathLike, AdapterRef)):
                raise InvalidRequest(f"{ref!r} is no adapter: give a ref, a folder, None, or {{ref: weight}}.")
            refs.setdefault(str(ref), ref)
    return list(refs.values())


def check_rows(rows: Sequence[Use], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise InvalidRequest unless there is one entry for every row of the batch."""
    batch = batch_size(args, kwargs)
    if not rows or (batch is not None and batch != len(rows)):
        raise InvalidRequest(
            f"adapters names {len(rows)} rows, and the batch has {batch or 'some'}. Give one ref or None for every "
            "row, or a single ref for all."
        )


def batch_size(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Return how many rows a call has; None where no argument that is known says so."""
    given = [kwargs.get(name) for name in ("input_ids", "inputs", "inputs_embeds")] + list(args[:1])
    return next((len(value) for value in given if isinstance(value, torch.Tensor)), None)
