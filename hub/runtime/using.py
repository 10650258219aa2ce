"""A block's choice as a context manager that refuses to decorate what it could not hold for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import _GeneratorContextManager
from typing import Any, TypeVar

from hub.errors import InvalidRequest

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Using(_GeneratorContextManager[T]):
    """What `contextlib.contextmanager` makes, but for decorating.

    Python's own ends the block when the decorated call returns.  A generator or coroutine function returns before its
    body runs: the body would compute another choice without a word.
    """

    def __call__(self, function: F) -> F:
        inner = inspect.unwrap(function)
        if (
            inspect.isgeneratorfunction(inner)
            or inspect.isasyncgenfunction(inner)
            or inspect.iscoroutinefunction(inner)
        ):
            raise InvalidRequest(
                f"{function.__name__} only runs after its call has returned, so model.using can't decorate it. "
                "Write `with model.using(…):` in its body."
            )
        return super().__call__(function)
