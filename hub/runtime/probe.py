"""Compare two choices by what the model says, over fixed inputs of the kind that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

ROWS, LENGTH = 4, 16
_SAMPLES = 3200
"""Of sound: a fifth of a second."""
_TEXT = (
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "Question: How many legs does a spider have? Answer in one word.",
    "Review: the food was cold and the waiter was rude. Sentiment:",
    'Return JSON with the keys "name" and "age" for a person of your choice.',
)
_DISTRIBUTIONS = ("logits", "start_logits", "logits_per_image")

Inputs = dict[str, torch.Tensor]


def probe_inputs(base: Any, tokenizer: Any | None, device: torch.device) -> Inputs | None:
    """Return inputs of `base`'s forward pass, always the same; None for a model whose inputs aren't known.

    Text is fixed if there is a tokenizer; tokens without one, images and sounds are a fixed draw.
    """
    main = str(getattr(base, "main_input_name", "input_ids"))
    config = getattr(base, "config", None)
    if config is None or main not in _MAKERS:
        return None
    inputs = {main: _MAKERS[main](config, tokenizer, device)}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = _tokens(config, tokenizer, device)
    if main == "input_ids" and _looks_and_reads(base):
        inputs["pixel_values"] = _image(config.vision_config, tokenizer, device)
    return {name: _as_base(value, base) for name, value in inputs.items()}


def _looks_and_reads(base: Any) -> bool:
    """Whether a model takes an image with every text (CLIP); one that generates takes text alone, too."""
    takes = inspect.signature(base.forward).parameters
    return "pixel_values" in takes and hasattr(base.config, "vision_config") and not base.can_generate()


def _as_base(value: torch.Tensor, base: Any) -> torch.Tensor:
    return value.to(base.dtype) if value.is_floating_point() else value


def _tokens(config: Any, tokenizer: Any | None, device: torch.device) -> torch.Tensor:
    return probe_tokens(config.get_text_config().vocab_size, tokenizer, device)


def _image(config: Any, tokenizer: Any | None, device: torch.device) -> torch.Tensor:
    size = config.image_size
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return _noise((ROWS, getattr(config, "num_channels", 3), *sides), device)


def _sound(config: Any, tokenizer: Any | None, device: torch.device) -> torch.Tensor:
    return _noise((ROWS, _SAMPLES), device)


def _spectrum(config: Any, tokenizer: Any | None, device: torch.device) -> torch.Tensor:
    return _noise((ROWS, config.num_mel_bins, 2 * config.max_source_positions), device)


_MAKERS: Mapping[str, Callable[[Any, Any, torch.device], torch.Tensor]] = {
    "input_ids": _tokens,
    "pixel_values": _image,
    "input_values": _sound,
    "input_features": _spectrum,
}


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(20_260_101)


def _noise(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.randn(shape, generator=_draw()).to(device)


def probe_tokens(vocabulary: int, tokenizer: Any | None, device: torch.device) -> torch.Tensor:
    """Return (ROWS, LENGTH) token ids, always the same: fixed texts if there is a tokenizer, else a fixed draw."""
    if tokenizer is not None:
        rows = [_exactly(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in _TEXT]
        return torch.tensor(rows, device=device) % vocabulary
    return torch.randint(0, vocabulary, (ROWS, LENGTH), generator=_draw()).to(device)


def _exactly(ids: list[int]) -> list[int]:
    return (ids * LENGTH)[:LENGTH] if ids else [0] * LENGTH


def distribution(output: Any) -> torch.Tensor | None:
    """Return the logits of a model's output, (…, classes), whatever its head calls them; None if it has none."""
    found = (output.get(name) for name in _DISTRIBUTIONS)
    return next((value for value in found if value is not None), None)


class Divergence(NamedTuple):
    """kl: mean KL divergence in nats.  same_top: how often the top class is the same.  places: how many there are."""

    kl: float
    same_top: float
    places: int


@torch.no_grad()
def compare(before: torch.Tensor | None, after: torch.Tensor | None) -> Divergence:
    """Return how `after` diverges from `before`, logits (…, classes) both; NaN over 0 places where there are none."""
    if before is None or after is None:
        return Divergence(float("nan"), float("nan"), 0)
    p = torch.log_softmax(before.double(), dim=-1)
    q = torch.log_softmax(after.double(), dim=-1)
    divergence = torch.sum(p.exp() * (p - q), dim=-1)
    same = (p.argmax(-1) == q.argmax(-1)).double().mean().item()
    return Divergence(max(divergence.mean().item(), 0.0), same, divergence.numel())
