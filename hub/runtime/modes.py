"""Tensors that outlive the call which made them, whatever mode torch was in when the caller came.

A tensor made inside `torch.inference_mode()` can never be written to, or take part in autograd, outside it.  So what is
kept (weights, factors, buffers that are used again) is made in the plain mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kept_tensors() -> Iterator[None]:
    """Make tensors that any later call may use, without recording gradients.  Also a decorator of functions."""
    with torch.inference_mode(False), torch.no_grad():  # in this order: the first one would turn gradients on
        yield
