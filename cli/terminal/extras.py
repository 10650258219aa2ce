"""What a command says when the packages of an extra are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hub.errors import Unavailable


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failing import into the step that mends it."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            f"The packages of this command are not installed ({error.name} is missing). "
            f"Install them: pip install 'lorahub-registry[{extra}]'"
        ) from error
