"""Train on a 4-bit base with the runtime's own products: forward from the codes, backward as dX = dY W.

bitsandbytes' layer writes the dense weight for each of the two; and on a CPU with AVX512-BF16 it repacks a weight that
was run in eval mode, after which its gradient is wrong.  PEFT wraps the layer as before: it still is a `Linear4bit`.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit

from hub.runtime import four_bit


class FromCodes(Linear4bit):
    """A `Linear4bit` that multiplies as the runtime does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parameters = self._parameters
        weight: Any = parameters["weight"]
        return four_bit.product(x, weight, weight.quant_state, parameters["bias"], self.compute_dtype)


def multiply_from_codes(model: Any) -> int:
    """Let every 4-bit layer on the CPU compute so; return how many there are.  Names, weights and state stay."""
    layers = [m for m in model.modules() if type(m) is Linear4bit and m.weight.is_cpu]
    four_bit.keep_weights_unpacked(layers)
    for layer in layers:
        layer.__class__ = FromCodes
    return len(layers)
