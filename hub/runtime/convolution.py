"""A low-rank update of a convolution: one with the base's kernel to rank channels, then one of kernel 1 back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from hub.runtime.updates import Update

_CONVOLUTIONS: Mapping[int, Callable[..., torch.Tensor]] = {
    3: functional.conv1d,
    4: functional.conv2d,
    5: functional.conv3d,
}


class ConvLowRank(Update):
    """out + scaling * B(A(x)) (+ bias).

    a: (rank, in, *kernel), with the base's stride and padding; b: (out, rank / groups, 1, …); bias: (out,), times the
    scaling, or None.
    """

    __slots__ = ("a", "b", "bias", "scaling")

    def __init__(self, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None, scaling: float) -> None:
        self.a, self.b, self.bias, self.scaling = a, b, bias, scaling

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        convolve = _CONVOLUTIONS[self.a.dim()]
        hidden = convolve(x.to(self.a.dtype), self.a, stride=layer.stride, padding=layer.padding)
        update = convolve(hidden, self.b, groups=layer.groups) * self.scaling
        if self.bias is not None:
            update = update + self.bias.view(-1, *[1] * (self.a.dim() - 2))
        return (out + update).to(out.dtype)

    def delta(self) -> torch.Tensor:
        """Return the update of the weight as (out, in * places of the kernel); the layer has one group."""
        return self.b.flatten(1).float() @ self.a.flatten(1).float() * self.scaling

    def tensors(self) -> Sequence[torch.Tensor]:
        return [t for t in (self.a, self.b, self.bias) if t is not None]
