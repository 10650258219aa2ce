"""Which code is running: the frames of a call, and the one whose `with` block is being entered."""

from __future__ import annotations

import contextlib
import inspect
import sys
from types import FrameType

_CONTEXTLIB = contextlib.contextmanager.__code__.co_filename
_IS_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def frames_of_this_call() -> set[FrameType]:
    """Return the frames of all functions that are being called in this thread."""
    frames = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.add(frame)
        frame = frame.f_back
    return frames


def depth_of(frame: FrameType) -> int:
    """Return how many calls are around a frame."""
    depth, outer = 0, frame.f_back
    while outer is not None:
        depth, outer = depth + 1, outer.f_back
    return depth


def is_generator(frame: FrameType) -> bool:
    """Whether the frame is a generator's, which may wait while its caller goes on."""
    return bool(frame.f_code.co_flags & _IS_GENERATOR)


def frame_that_enters() -> FrameType | None:
    """Return the frame whose `with` block is being entered, seen from a context manager's own code.

    A generator that `contextlib` makes a context manager of isn't meant: the code that enters *it* is.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (_is_of_contextlib(frame) or _is_entered(frame)):
        frame = frame.f_back
    return frame


def _is_entered(frame: FrameType) -> bool:
    return is_generator(frame) and _is_of_contextlib(frame.f_back)


def _is_of_contextlib(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename == _CONTEXTLIB
