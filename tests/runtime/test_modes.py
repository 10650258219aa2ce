"""Public calls in inference_mode, under no_grad and with autograd, in every order of two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtime import support
from tests.runtime.support import TOKENS, in_thread, load_model, relative_error, write_adapter

MODES: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autograd": torch.enable_grad,
}
EVERY = support.targets_of("llama")
GENERATE = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
Folders = Mapping[str, Path]


@pytest.fixture(scope="module")
def folders(bases, tmp_path_factory) -> Folders:
    root, base = tmp_path_factory.mktemp("modes"), bases("biased-llama")
    settings: dict[str, dict[str, Any]] = {
        "first": {"target_modules": EVERY, "r": 4},
        "second": {"target_modules": ["q_proj", "down_proj"], "r": 3},
        "dora": {"target_modules": EVERY, "r": 2, "use_dora": True},
    }
    return {name: write_adapter(base, root / name, seed=len(name), **chosen) for name, chosen in settings.items()}


def forward(model: Any, folders: Folders) -> torch.Tensor:
    return model(input_ids=TOKENS).logits


def mixed(model: Any, folders: Folders) -> torch.Tensor:
    return model(input_ids=TOKENS, adapters=[folders["second"], folders["dora"]]).logits


def generate(model: Any, folders: Folders) -> torch.Tensor:
    return model.generate(input_ids=TOKENS, adapters=folders["second"], **GENERATE).float()


def use(model: Any, folders: Folders) -> torch.Tensor:
    model.use(folders["dora"])
    found = forward(model, folders)
    model.use(folders["first"])
    return found


def using_a_sum(model: Any, folders: Folders) -> torch.Tensor:
    with model.using({folders["first"]: 0.5, folders["second"]: 2.0}):
        return forward(model, folders)


def add(model: Any, folders: Folders) -> torch.Tensor:
    model.remove(folders["second"])
    model.add(folders["second"])
    with model.using(folders["second"]):
        return forward(model, folders)


def merge(model: Any, folders: Folders) -> torch.Tensor:
    model.merge()
    found = forward(model, folders)
    model.unmerge()
    return found


CALLS = (forward, mixed, generate, use, using_a_sum, add, merge)
STEPS = [(call, mode) for call in CALLS for mode in MODES]


def load_in_order(base: Path, folders: Folders, quantize: str | None) -> Any:
    return load_model(base, *folders.values(), quantize=quantize)


def input_gradient(model: Any) -> torch.Tensor:
    """What a prompt tuner, or an attribution, asks a model that computes with autograd."""
    embedded = model.get_input_embeddings()(TOKENS).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs_embeds=embedded).logits.square().mean(), embedded)
    return gradient


@pytest.mark.parametrize("quantize", [None, "nf4"])
@pytest.mark.parametrize("mode", MODES)
def test_calls_give_the_same_in_every_order_of_modes(mode, quantize, bases, folders):
    """After each first call, in a thread with buffers of its own, come all calls in all modes."""
    plain = load_in_order(bases("biased-llama"), folders, quantize)
    with torch.no_grad():
        expected = {call: call(plain, folders) for call in CALLS}
    slope = input_gradient(plain)

    def follow(first: Callable[..., torch.Tensor]) -> int:
        with MODES[mode]():
            model = load_in_order(bases("biased-llama"), folders, quantize)
            first(model, folders)
        for call, second in STEPS:
            with MODES[second]():
                found = call(model, folders)
            assert relative_error(found, expected[call]) < 1e-5, (first.__name__, call.__name__, second)
        assert relative_error(input_gradient(model), slope) < 1e-4, first.__name__
        return len(STEPS)

    assert [in_thread(lambda call=call: follow(call)) for call in CALLS] == [len(STEPS)] * len(CALLS)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_of_peft_in_every_mode_of_loading(mode, bases, folders):
    base = bases("biased-llama")
    with MODES[mode]():
        model = load_model(base, folders["dora"])
        forward(model, folders)
    import peft

    oracle = peft.PeftModel.from_pretrained(support.open_base(base), folders["dora"]).eval()
    assert relative_error(input_gradient(model), input_gradient(oracle)) < 1e-4


@pytest.mark.parametrize("mode", MODES)
def test_a_merge_is_saved_and_compiled_slots_are_made_in_every_mode(mode, bases, folders, tmp_path):
    with MODES[mode]():
        model = load_model(bases("biased-llama"), folders["first"])
        model.merge()
        model.save_merged(tmp_path / "merged")
        model.unmerge()
        model.compile(backend="eager")
    with torch.no_grad():
        expected = model(input_ids=TOKENS).logits
    with torch.inference_mode():
        assert relative_error(load_model(tmp_path / "merged")(input_ids=TOKENS).logits, expected) < 1e-5
