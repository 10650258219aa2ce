"""Rows with different adapters: each says what its adapter says alone, or the batch is refused by the module's name."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
import transformers

from hub.errors import Unsupported
from hub.runtime import load
from tests.runtime import support
from tests.runtime.support import TOKENS, relative_error

ENCODER = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
MODELS = {
    "llama": (lambda: transformers.LlamaForCausalLM(support.CONFIGS["llama"]()), ["q_proj", "down_proj"]),
    "gpt2": (lambda: transformers.GPT2LMHeadModel(support.CONFIGS["gpt2"]()), ["c_attn", "c_fc"]),
    "bert": (
        lambda: transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER, num_attention_heads=4)),
        ["query", "value"],
    ),
    "t5": (
        lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=96, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4)
        ),
        ["q", "v", "wo"],
    ),
    "vit": (
        lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=32,
                patch_size=8, num_labels=5,
            )
        ),
        ["q_proj", "v_proj"],
    ),
    "xlnet": (
        lambda: transformers.XLNetLMHeadModel(
            transformers.XLNetConfig(vocab_size=96, d_model=64, n_layer=2, n_head=4, d_inner=96)
        ),
        ["layer_1", "layer_2"],
    ),
    "longformer": (
        lambda: transformers.LongformerForMaskedLM(
            transformers.LongformerConfig(
                **ENCODER, num_attention_heads=4, attention_window=4, max_position_embeddings=64
            )
        ),
        ["query", "value"],
    ),
}  # fmt: skip
REFUSED = {"xlnet", "longformer"}


def inputs_of(kind, model):
    if kind == "vit":
        return {"pixel_values": torch.randn(2, 3, 32, 32)}
    given = {"input_ids": TOKENS}
    return given | {"decoder_input_ids": TOKENS.flip(1)} if kind == "t5" else given


def folders_for(model, targets, root):
    """Let PEFT save two adapters of a model that was made in memory."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        wrapped = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=2, target_modules=targets))
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.3)
        wrapped.peft_config["default"].auto_mapping = None
        wrapped.save_pretrained(root / f"a{seed}")
        found.append(root / f"a{seed}")
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_rows_say_what_their_adapters_say_alone_or_are_refused(kind, tmp_path):
    make, targets = MODELS[kind]
    torch.manual_seed(3)
    base = make().eval()
    folders = folders_for(base, targets, tmp_path)
    model = load(base, *folders)
    inputs = inputs_of(kind, base)
    with torch.no_grad():
        alone = [model(**inputs, adapters=folder).logits[row] for row, folder in enumerate(folders)]
        assert relative_error(alone[0], model(**inputs, adapters=folders[1]).logits[0]) > 1e-3
        if kind in REFUSED:
            with pytest.raises(Unsupported, match="isn't known to see the rows of a batch first"):
                model(**inputs, adapters=folders)
        else:
            together = model(**inputs, adapters=folders).logits
            assert relative_error(together, torch.stack(alone)) <= 1e-4


def test_an_image_tower_that_joins_the_images_of_all_rows_is_refused(tmp_path):
    """Its rows are patches: two images of different sizes, and an even number of patches proves nothing."""
    text = {**support.SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128}
    config = transformers.Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 4, "spatial_merge_size": 2, "window_size": 16, "fullatt_block_indexes": [1],
        },
        image_token_id=120, video_token_id=121, vision_start_token_id=122, vision_end_token_id=123,
    )  # fmt: skip
    torch.manual_seed(0)
    base = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    folders = folders_for(base, ["q_proj", "qkv"], tmp_path)
    model = load(base, *folders)
    grids = torch.tensor([[1, 4, 4], [1, 8, 4]])
    patches = int((grids.prod(1)).sum())
    counts = [int(grid.prod()) // 4 for grid in grids]
    ids = torch.full((2, max(counts) + 4), 5)
    for row, count in enumerate(counts):
        ids[row, 1] = 122
        ids[row, 2 : 2 + count] = 120
    kwargs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(patches, 3 * 2 * 4 * 4),
        "image_grid_thw": grids,
        "mm_token_type_ids": (ids == 120).int(),
    }
    with torch.no_grad():
        text_only = {"input_ids": TOKENS}
        alone = [model(**text_only, adapters=folder).logits[row] for row, folder in enumerate(folders)]
        assert relative_error(model(**text_only, adapters=folders).logits, torch.stack(alone)) <= 1e-4
        model(**kwargs, adapters=folders[0])
        with pytest.raises(Unsupported, match=r"visual.*isn't known to see the rows"):
            model(**kwargs, adapters=folders)


def test_a_model_that_trains_is_proven_too(base, tmp_path):
    """Dropout must not look like rows that reach each other."""
    config = support.CONFIGS["gpt2"]()
    trains = transformers.GPT2LMHeadModel(config)
    folders = folders_for(trains, ["c_attn"], tmp_path)
    model = load(trains, *folders)
    model.base.train()
    said = model(input_ids=TOKENS, adapters=folders).logits
    assert said.shape[:2] == TOKENS.shape
    model.base.eval()  # proven once: without dropout each row is what its adapter says alone
    mixed = model(input_ids=TOKENS, adapters=folders).logits
    for row, folder in enumerate(folders):
        alone = model(input_ids=TOKENS, adapters=str(folder)).logits[row]
        assert relative_error(mixed[row], alone) <= 1e-5


def test_compiled_code_that_can_t_check_is_asked_before(tmp_path):
    make, targets = MODELS["xlnet"]
    base = make().eval()
    folders = folders_for(base, targets, tmp_path)
    model = load(base, *folders)
    model.compile(backend="eager")
    with pytest.raises(Unsupported, match="isn't known to see the rows"), model.using(folders):
        pass


def test_rows_are_told_apart_beside_numbers_that_dwarf_them(base, tmp_path):
    """Trained models have a few channels that are a thousand times as large as the others, in every row alike."""
    model = support.open_base(base)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] = 300.0
    model.save_pretrained(tmp_path / "base")
    targets = support.targets_of("llama")
    folders = [
        support.write_adapter(tmp_path / "base", tmp_path / f"a{i}", seed=i, r=2, target_modules=targets)
        for i in range(2)
    ]
    ours = load(tmp_path / "base", *folders, device="cpu", quantize=None)
    mixed = support.logits(ours, adapters=[str(folder) for folder in folders])
    for row, folder in enumerate(folders):
        alone = support.logits(ours, adapters=str(folder))
        assert support.relative_error(mixed[row], alone[row]) <= 1e-5
