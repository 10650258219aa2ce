"""The loss and its gradients, against the ones that transformers computes from labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hub.errors import InvalidRequest
from hub.training.encoding import Row, batches, encode, render_prompt
from hub.training.examples import Example, Message
from hub.training.loss import MAX_PACKED_TOKENS, can_pack, common_prefix, completion_loss
from tests.training.bases import make_model, make_tokenizer

ROWS = [
    Row((1, 2, 3, 4, 5, 6, 7, 8), 5),
    Row((1, 2, 3, 9, 10, 11), 4),
    Row((1, 2, 3, 4, 12, 13, 14, 15, 16, 17), 7),
]


def with_adapter(model: Any, targets: Sequence[str] = ("q_proj", "v_proj")) -> Any:
    """B is not zero, so that both halves of every pair have gradients."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=list(targets), init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def reference_loss(model: Any, rows: Sequence[Row]) -> torch.Tensor:
    """transformers' own: rows padded, everything but completions labelled -100."""
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        mask[index, : len(row.ids)] = 1
        labels[index, row.start : len(row.ids)] = torch.tensor(row.ids[row.start :])
    loss: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    return loss


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def assert_same_loss_and_gradients(model: Any, rows: Sequence[Row]) -> None:
    ours, theirs = completion_loss(model, rows), reference_loss(model, rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    expected = gradients(model, theirs)
    found = gradients(model, ours)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name  # an element may be near zero


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_packed_rows_give_the_loss_and_gradients_of_padded_ones(model_type: str) -> None:
    extra = {"sliding_window": None} if model_type == "mistral" else {}
    model = with_adapter(make_model(model_type, **extra))
    assert can_pack(model)
    assert_same_loss_and_gradients(model, ROWS)


@pytest.mark.parametrize(
    ("model_type", "sizes", "targets"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 64}, ["c_attn"]),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 64}, ["q_proj", "v_proj"]),
        ("mistral", {"sliding_window": 4}, ["q_proj", "v_proj"]),
    ],
)
def test_models_that_take_no_free_mask_are_padded(model_type: str, sizes: dict[str, Any], targets: list[str]) -> None:
    model = with_adapter(make_model(model_type, **sizes), targets)
    model.eval()  # gpt2 and opt have dropout
    assert not can_pack(model)
    assert_same_loss_and_gradients(model, ROWS)


def test_rows_that_are_long_together_are_padded() -> None:
    """Attention over one packed sequence costs the square of its length."""
    model = with_adapter(make_model(num_hidden_layers=1, max_position_embeddings=2048))
    seen: list[tuple[int, ...]] = []
    model.get_base_model().model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    rows = [Row(tuple(range(200)), 190)] * (MAX_PACKED_TOKENS // 200 + 1)
    completion_loss(model, rows)
    completion_loss(model, rows[:2])
    assert seen == [(len(rows), 200), (1, 189 + 2 * 11)]


def test_the_prompt_has_no_part_in_the_loss() -> None:
    """Rows with the same completion after the same prompt have one loss, however many labels a prompt could give."""
    model = with_adapter(make_model())
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ROWS[0].ids])).logits[0]
        expected = torch.nn.functional.cross_entropy(logits[4:7], torch.tensor(ROWS[0].ids[5:]))
        torch.testing.assert_close(completion_loss(model, ROWS[:1]), expected)


def test_the_common_prefix_leaves_each_row_a_token_of_its_prompt() -> None:
    assert common_prefix(ROWS) == 3
    assert common_prefix([ROWS[0], ROWS[0]]) == 4
    assert common_prefix([Row((1, 2), 1), Row((1, 3), 1)]) == 0


def test_encoded_text_is_what_generation_sees_and_the_end_mark_is_learned() -> None:
    tokenizer = make_tokenizer()
    example = Example((Message("system", "Brief."), Message("user", "2+2?")), "4")
    row = encode(tokenizer, example, 100)
    assert tokenizer.decode(row.ids[: row.start]) == "<|system|>Brief.<|end|><|user|>2+2?<|end|><|assistant|>"
    assert tokenizer.decode(row.ids[row.start :]) == "4<|end|>"
    assert list(row.ids[: row.start]) == tokenizer(render_prompt(tokenizer, example)).input_ids


def test_without_a_chat_template_the_prompt_stands_alone() -> None:
    tokenizer = make_tokenizer(chat=False)
    row = encode(tokenizer, Example((Message("user", "2+2="),), "4"), 100)
    assert tokenizer.decode(row.ids) == "2+2=4<|end|>"


def test_an_example_is_never_cut() -> None:
    with pytest.raises(InvalidRequest, match=r"has 36 tokens; max_length is 20"):
        encode(make_tokenizer(), Example((Message("user", "x" * 30),), "ok"), 20)


def test_batches_go_through_all_rows_before_any_comes_again_and_the_seed_fixes_their_order() -> None:
    rows = [Row((index, index + 1), 1) for index in range(10)]

    def first_batches(seed: int) -> list[list[Row]]:
        source = batches(rows, 4, seed)
        return [next(source) for _ in range(5)]

    taken = [row for batch in first_batches(0) for row in batch]
    assert sorted(taken[:10], key=lambda row: row.ids) == rows
    assert sorted(taken[10:], key=lambda row: row.ids) == rows
    assert first_batches(0) == first_batches(0) != first_batches(1)
