"""Merge the active adapter into weights of its own, and say what that did to the model.

    dequant     a dense bfloat16 copy of every 4-bit layer, with the update added: the same function
    from-base   the original weights plus the update, quantized again: nothing lost but to the usual noise
    requant     the 4-bit weights plus the update, quantized again: small updates vanish, so it is refused below 0.9

The base's own weights are never written to: merging makes substitutes, and unmerging drops them.  So unmerging is exact
to the bit, after any number of cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hub.errors import Incompatible, InvalidRequest, Unsupported
from hub.runtime import dense, four_bit, targets
from hub.runtime.convolution import ConvLowRank
from hub.runtime.offloaded import bias_here, weights_here
from hub.runtime.selection import Choice
from hub.runtime.updates import Substitute, Update

MODES = ("dequant", "from-base", "requant")
LEAST_RETENTION = 0.9

ReadOriginal = Callable[[str], torch.Tensor]
"""`read(module)` returns the weight that a 4-bit layer was quantized from, as (out, in) in float32."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge kept of the adapter.  W: the merged weight, Wq: the base's, Δ: the adapter's update.

    retention: <W − Wq, Δ> / ‖Δ‖² over all merged modules; 1 is ideal, 0 means that the adapter is gone.
    residual: ‖W − (Wq + Δ)‖ / ‖Δ‖; 0 is ideal.
    worst: the module with the least retention, and that.
    logit_kl: mean KL divergence of the merged model's distribution (of next tokens, or a head's classes) from the
        unmerged model's, in nats, over `probe_tokens` fixed places.  top1_agreement: the share of them with the same
        most likely token or class.  Both are NaN, over 0 places, for a model without logits.
    """

    mode: str
    adapter: str
    modules: int
    retention: float
    residual: float
    worst: tuple[str, float]
    logit_kl: float
    top1_agreement: float
    probe_tokens: int

    def lines(self) -> list[str]:
        """Return the report as text, for a terminal."""
        return [
            f"merged {self.adapter} into {self.modules} modules ({self.mode})",
            f"retention {self.retention:.4f} (1 is ideal), worst {self.worst[1]:.4f} at {self.worst[0]}",
            f"residual {self.residual:.4f} (0 is ideal)",
            self._probe_line(),
        ]

    def _probe_line(self) -> str:
        if not self.probe_tokens:
            return "this model has no logits to compare"
        same = f"same top token {self.top1_agreement:.1%}"
        return f"over {self.probe_tokens} probe tokens: KL {self.logit_kl:.3g}, {same}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass
class Agreement:
    """Sums over modules of what `MergeReport` says; float64, so that millions of terms add up."""

    kept: float = 0.0
    size: float = 0.0
    error: float = 0.0
    worst: tuple[str, float] = ("", float("inf"))
    modules: int = 0

    def add(self, name: str, merged: torch.Tensor, base: torch.Tensor, target: torch.Tensor) -> None:
        delta = target - base
        kept = torch.sum((merged - base) * delta, dtype=torch.float64).item()
        size = torch.sum(delta * delta, dtype=torch.float64).item()
        self.error += torch.sum((merged - target) ** 2, dtype=torch.float64).item()
        self.kept, self.size, self.modules = self.kept + kept, self.size + size, self.modules + 1
        if size > 0 and kept / size < self.worst[1]:
            self.worst = (name, kept / size)

    @property
    def retention(self) -> float:
        return self.kept / self.size if self.size else 1.0

    @property
    def residual(self) -> float:
        return float((self.error / self.size) ** 0.5) if self.size else 0.0


def check_mode(mode: str, modules: Mapping[str, nn.Module]) -> None:
    if mode not in MODES:
        raise InvalidRequest(f"mode={mode!r}: {', '.join(MODES)} are known.")
    if mode != "dequant" and not any(dense.is_four_bit(module) for module in modules.values()):
        raise InvalidRequest(
            f'mode={mode!r} is for a 4-bit base, and this one is dense: mode="dequant" adds the update.'
        )


def merge(
    choice: Choice, mode: str, modules: Mapping[str, nn.Module], names: Mapping[int, str], read: ReadOriginal | None
) -> tuple[Choice, Agreement]:
    """Return the choice in which every module of `choice` computes with one merged weight, and how well that agrees.

    Peak memory besides the merged weights: three dense layers.
    Raises Incompatible for `requant` below LEAST_RETENTION.
    """
    agreement = Agreement()
    updates: dict[int, Update] = {}
    for index, update in choice.updates.items():
        module = modules[names[index]]
        if targets.has_dense_form(update, module):
            with weights_here(module):
                updates[index] = _merge_module(names[index], module, update, mode, read, agreement)
        else:
            updates[index] = update  # a norm with other parameters, say: it is one module already
    if mode == "requant":
        _refuse_loss(agreement)
    if mode == "dequant":
        updates |= _densify_others(updates, modules, names)
    return Choice(updates, choice.refs, choice.label), agreement


def _merge_module(
    name: str, module: nn.Module, update: Update, mode: str, read: ReadOriginal | None, agreement: Agreement
) -> Substitute:
    base = dense.dense_weight(module)
    if hasattr(module, "parametrizations"):
        raise Unsupported(f"{name} computes its weight from others, so nothing merges into it. Keep the adapter apart.")
    if isinstance(update, ConvLowRank) and getattr(module, "groups", 1) > 1:
        raise Unsupported(f"{name} is a convolution in groups, whose update can't be merged. Keep the adapter apart.")
    target, bias = targets.apply(update, module, base)
    if not dense.is_quantized(module):
        weight: Any = module.weight
        merged = target.to(weight.dtype)
        agreement.add(name, merged.float(), base, target)
        return _substitute_dense(module, merged, bias)
    if mode == "dequant":
        merged = target.to(torch.bfloat16)
        agreement.add(name, merged.float(), base, target)
        return _substitute_dense(module, merged, bias)
    wanted = target if read is None else targets.apply(update, module, read(name))[0]
    state: Any = module.weight.quant_state  # type: ignore[union-attr]
    codes, new_state = four_bit.quantize_like(_as_quantized(wanted, state), state)
    agreement.add(name, four_bit.dequantize(codes, new_state), base, target)
    return _substitute_four_bit(module, codes, new_state, bias)


def _as_quantized(weight: torch.Tensor, state: Any) -> torch.Tensor:
    """Return the weight in the type that the base's was quantized from: the codes depend on it."""
    return weight.to(state.dtype) if state.dtype in (torch.float16, torch.bfloat16) else weight


def _refuse_loss(agreement: Agreement) -> None:
    if agreement.retention >= LEAST_RETENTION:
        return
    raise Incompatible(
        f"requant would keep {agreement.retention:.3f} of this adapter (worst {agreement.worst[1]:.3f} at "
        f"{agreement.worst[0]}); at least {LEAST_RETENTION} is asked. Its update is smaller than the steps of the "
        '4-bit grid. Use mode="dequant" (the same function, in bfloat16) or mode="from-base" (4-bit, from the original '
        "weights).",
        retention=agreement.retention,
        residual=agreement.residual,
        worst_module=agreement.worst[0],
    )


def _densify_others(
    merged: Mapping[int, Update], modules: Mapping[str, nn.Module], names: Mapping[int, str]
) -> dict[int, Update]:
    """Return substitutes for the quantized layers that have no update, so that the merged model is one dense model."""
    return {
        index: _substitute_dense(modules[name], dense.dense_weight(modules[name]).to(torch.bfloat16), None)
        for index, name in names.items()
        if index not in merged and dense.is_quantized(modules[name])
    }


def _substitute_dense(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None) -> Substitute:
    """weight: (out, in); of an embedding (width, vocabulary)."""
    own = bias_here(module)
    kept = own if bias is None else bias.to(weight.dtype if own is None else own.dtype)
    if dense.is_conv(module):
        shaped = weight.view(module.weight.shape)
        return Substitute(partial(module._conv_forward, weight=shaped, bias=kept), shaped, kept)
    if dense.is_embedding(module):
        rows = weight.t().contiguous()
        return Substitute(partial(_embed, module, rows), rows, None)
    weight = weight.contiguous()
    return Substitute(partial(four_bit.dense_product, weight=weight, bias=kept), weight, kept)


def _embed(module: Any, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    out = functional.embedding(ids, rows, module.padding_idx)
    scale = getattr(module, "embed_scale", None)
    return out if scale is None else out * torch.as_tensor(scale).to(out.dtype)


def _substitute_four_bit(module: Any, codes: torch.Tensor, state: Any, bias: torch.Tensor | None) -> Substitute:
    kept = bias_here(module) if bias is None else bias
    run = partial(four_bit.product, weight=codes, state=state, bias=kept, compute_dtype=module.compute_dtype)
    return Substitute(run, four_bit.FourBitWeight(codes, state), kept)
