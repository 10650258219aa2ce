"""A base is described by its headers, and recognised as itself, a copy, a fine-tune or another model."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from hub.base.sketch import Place, sketch_places
from hub.base.spec import BaseMatch, BaseSpec, Block, TensorShape, compare_identity
from hub.errors import InvalidRequest, InvalidSafetensors, Unsupported
from hub.formats import nf4
from hub.manifest import BaseIdentity
from tests.support.models import TINY_CONFIGS, quiet, tiny_config, tiny_model

ARCHITECTURE_SAMPLE = [
    "llama",
    "llama-tied",
    "gpt2",
    "opt",
    "gpt_neox",
    "bloom",
    "mixtral",
    "qwen2_moe",
    "gemma2",
    "phi",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function: model name, dtype, seed -> a folder that transformers saved."""
    root, made = tmp_path_factory.mktemp("bases"), {}

    def folder(name, dtype=torch.float32, seed=0, nf4_double_quant=None):
        key = (name, dtype, seed, nf4_double_quant)
        if key not in made:
            path = root / "-".join(map(str, key)).replace(".", "_")
            model = tiny_model(name, seed, dtype)
            with quiet():
                model.save_pretrained(path)
                if nf4_double_quant is not None:
                    settings = BitsAndBytesConfig(
                        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=nf4_double_quant
                    )
                    packed = AutoModelForCausalLM.from_pretrained(path, quantization_config=settings, dtype=dtype)
                    shutil.rmtree(path)
                    packed.save_pretrained(path)
            made[key] = path
        return made[key]

    return folder


@pytest.mark.parametrize("name", ARCHITECTURE_SAMPLE)
def test_a_folder_and_its_config_alone_give_the_same_shapes_and_modules(folders, name):
    from_files = BaseSpec.from_folder(folders(name))
    from_config = BaseSpec.from_config(json.loads((folders(name) / "config.json").read_text()))
    assert from_files.shapes == from_config.shapes
    assert dict(from_files.modules) == dict(from_config.modules)
    assert from_files.parameters == sum(p.numel() for p in tiny_model(name).parameters())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("double_quant", [False, True])
def test_an_nf4_folder_has_the_true_shapes_and_is_a_copy_of_its_original(folders, name, double_quant):
    original = BaseSpec.from_folder(folders(name))
    copy = BaseSpec.from_folder(folders(name, nf4_double_quant=double_quant))
    assert copy.quantization == "nf4"
    assert copy.shapes == original.shapes
    assert dict(copy.modules) == dict(original.modules)
    assert copy.parameters == original.parameters
    assert compare_identity(original.identity(), copy) is BaseMatch.COPY
    assert compare_identity(copy.identity(), original) is BaseMatch.COPY


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cast_is_a_copy_in_both_directions(folders, name, dtype):
    original, cast = BaseSpec.from_folder(folders(name)), BaseSpec.from_folder(folders(name, dtype))
    assert compare_identity(original.identity(), cast) is BaseMatch.COPY
    assert compare_identity(cast.identity(), original) is BaseMatch.COPY


@pytest.mark.parametrize("double_quant", [False, True])
def test_an_nf4_copy_of_a_cast_is_a_copy_of_the_original(folders, double_quant):
    original = BaseSpec.from_folder(folders("llama"))
    copy = BaseSpec.from_folder(folders("llama", torch.bfloat16, nf4_double_quant=double_quant))
    assert compare_identity(original.identity(), copy) is BaseMatch.COPY


def test_double_quantization_changes_no_code(folders):
    plain = BaseSpec.from_folder(folders("llama", nf4_double_quant=False))
    double = BaseSpec.from_folder(folders("llama", nf4_double_quant=True))
    assert compare_identity(plain.identity(), double) is BaseMatch.SAME_WEIGHTS


def test_a_renamed_folder_is_the_same_model(folders, tmp_path):
    shutil.copytree(folders("llama"), tmp_path / "my-private-name")
    recorded = BaseSpec.from_folder(folders("llama")).identity(id="meta-llama/Llama-2-7b-hf", revision="abc")
    assert compare_identity(recorded, BaseSpec.from_folder(tmp_path / "my-private-name")) is BaseMatch.SAME_WEIGHTS


def test_other_weights_of_equal_shapes_are_told_apart(folders):
    ours, other = BaseSpec.from_folder(folders("llama")), BaseSpec.from_folder(folders("llama", seed=1))
    assert compare_identity(ours.identity(), other) is BaseMatch.OTHER_WEIGHTS
    quantized = BaseSpec.from_folder(folders("llama", seed=1, nf4_double_quant=True))
    assert compare_identity(ours.identity(), quantized) is BaseMatch.OTHER_WEIGHTS


@pytest.mark.parametrize("step", [0.1, 0.01, 0.003])
def test_a_fine_tune_is_told_apart_also_from_its_nf4_copy(folders, tmp_path, step):
    original = folders("llama")
    tuned = tmp_path / "tuned"
    shutil.copytree(original, tuned)
    weights = load_file(tuned / "model.safetensors")
    torch.manual_seed(7)
    moved = {name: w + step * w.std() * torch.randn_like(w) if w.dim() == 2 else w for name, w in weights.items()}
    save_file(moved, tuned / "model.safetensors", metadata={"format": "pt"})
    recorded = BaseSpec.from_folder(original).identity()
    assert compare_identity(recorded, BaseSpec.from_folder(tuned)) is BaseMatch.OTHER_WEIGHTS
    with quiet():
        packed = AutoModelForCausalLM.from_pretrained(
            tuned, quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        )
        packed.save_pretrained(tmp_path / "packed")
    assert compare_identity(recorded, BaseSpec.from_folder(tmp_path / "packed")) is BaseMatch.OTHER_WEIGHTS


def test_a_merged_adapter_makes_another_model_of_the_base(folders, tmp_path):
    shutil.copytree(folders("llama"), tmp_path / "merged")
    weights = load_file(tmp_path / "merged/model.safetensors")
    torch.manual_seed(3)
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            update = torch.randn(weight.shape[0], 4) @ torch.randn(4, weight.shape[1])
            weight += 0.01 * weight.norm() / update.norm() * update
    save_file(weights, tmp_path / "merged/model.safetensors", metadata={"format": "pt"})
    match = compare_identity(
        BaseSpec.from_folder(folders("llama")).identity(), BaseSpec.from_folder(tmp_path / "merged")
    )
    assert match is BaseMatch.OTHER_WEIGHTS


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"])
def test_a_change_outside_of_the_sketched_layers_is_told_apart_where_both_are_stored_alike(folders, tmp_path, name):
    shutil.copytree(folders("llama"), tmp_path / "tuned")
    weights = load_file(tmp_path / "tuned/model.safetensors")
    save_file(weights | {name: weights[name] * 1.01}, tmp_path / "tuned/model.safetensors")
    recorded, tuned = BaseSpec.from_folder(folders("llama")).identity(), BaseSpec.from_folder(tmp_path / "tuned")
    assert recorded.sketch == tuned.sketch
    assert compare_identity(recorded, tuned) is BaseMatch.OTHER_WEIGHTS
    # Where one side knows no more than the sketch, that decides.
    assert compare_identity(replace(recorded, weights=None), tuned) is BaseMatch.COPY


def test_other_shapes_are_another_model(folders):
    match = compare_identity(
        BaseSpec.from_folder(folders("llama")).identity(), BaseSpec.from_folder(folders("llama-tied"))
    )
    assert match is BaseMatch.OTHER_MODEL


def test_what_was_not_recorded_is_unknown(folders):
    spec = BaseSpec.from_folder(folders("llama"))
    assert compare_identity(BaseIdentity(id="some/model"), spec) is BaseMatch.UNKNOWN
    shapes_only = replace(spec.identity(), weights=None, sketch=None)
    assert compare_identity(shapes_only, spec) is BaseMatch.UNKNOWN


@pytest.mark.parametrize("sketch", ["", "not base64!", "AAAA", "ASAB", "AQH/"])
def test_a_malformed_sketch_is_unknown_and_never_a_match(folders, sketch):
    spec = BaseSpec.from_folder(folders("llama"))
    recorded = replace(spec.identity(), weights=None, sketch=sketch)
    assert compare_identity(recorded, spec) is BaseMatch.UNKNOWN


def test_shards_give_the_same_marks_as_one_file(folders, tmp_path):
    with quiet():
        tiny_model("llama").save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert BaseSpec.from_folder(tmp_path).identity() == BaseSpec.from_folder(folders("llama")).identity()


@pytest.mark.parametrize("name", ["llama", "gpt2", "llama-tied"])
def test_a_model_in_memory_has_the_marks_of_its_folder(folders, name):
    model = tiny_model(name)
    parameters = dict(model.named_parameters())

    def read(tensor, start, count):
        return Block("F32", parameters[tensor].detach().flatten()[start : start + count].numpy().tobytes())

    shapes = {key: TensorShape(tuple(p.shape), "F32") for key, p in parameters.items()}
    in_memory = BaseSpec.from_tensors(model.config.to_dict(), shapes, read)
    assert in_memory.identity() == BaseSpec.from_folder(folders(name)).identity()


def test_old_gpt2_files_without_prefix_and_with_mask_buffers_are_the_same_model(folders, tmp_path):
    shutil.copytree(folders("gpt2"), tmp_path / "old")
    weights = load_file(tmp_path / "old/model.safetensors")
    old = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    old |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32) for layer in range(2)}
    save_file(old, tmp_path / "old/model.safetensors")
    assert BaseSpec.from_folder(tmp_path / "old").identity() == BaseSpec.from_folder(folders("gpt2")).identity()


def test_old_mixtral_files_with_one_tensor_per_expert_have_the_shapes_of_the_model(folders, tmp_path):
    shutil.copytree(folders("mixtral"), tmp_path / "old")
    names = list(load_file(tmp_path / "old/model.safetensors"))
    assert any(".experts.2.w1" in name for name in names), "transformers writes one tensor per expert"
    spec = BaseSpec.from_folder(tmp_path / "old")
    assert spec.tensors["model.layers.0.mlp.experts.gate_up_proj"].shape == (3, 160, 64)


def test_a_tied_output_layer_that_is_stored_again_changes_nothing(folders, tmp_path):
    shutil.copytree(folders("llama-tied"), tmp_path / "twice")
    weights = load_file(tmp_path / "twice/model.safetensors")
    save_file(
        weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}, tmp_path / "twice/model.safetensors"
    )
    assert BaseSpec.from_folder(tmp_path / "twice").shapes == BaseSpec.from_folder(folders("llama-tied")).shapes


def test_the_identity_fits_a_manifest(folders):
    identity = BaseSpec.from_folder(folders("llama")).identity(id="acme/base")
    assert all(len(value) < 65_536 for value in identity.to_json().values())
    assert len(identity.shapes) == 64
    assert len(identity.weights) == 64 + 1 + 16


def test_a_base_with_another_quantization_is_read_from_its_config(folders, tmp_path):
    config = json.loads((folders("llama") / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    save_file(
        {"model.layers.0.self_attn.q_proj.qweight": torch.zeros(8, 64, dtype=torch.int32)},
        tmp_path / "model.safetensors",
    )
    spec = BaseSpec.from_folder(tmp_path)
    assert spec.quantization == "gptq"
    assert spec.shapes == BaseSpec.from_folder(folders("llama")).shapes
    assert spec.weights is None


def test_an_architecture_without_a_table_is_read_from_its_files(tmp_path):
    save_file(
        {"net.embed_tokens.weight": torch.zeros(10, 4), "net.0.proj.weight": torch.zeros(6, 4)},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text(
        '{"model_type": "novel", "architectures": ["NovelForCausalLM"], "tie_word_embeddings": true}'
    )
    modules = BaseSpec.from_folder(tmp_path).modules
    assert (modules["net.0.proj"].kind, modules["net.0.proj"].out_features) == ("linear", 6)
    assert modules["net.embed_tokens"].kind == "embedding"
    assert modules["lm_head"].out_features == 10


def test_the_mark_of_shapes_is_the_hash_of_sorted_lines(folders):
    model = tiny_model("llama")
    lines = sorted(f"{name} {'x'.join(map(str, p.shape))}\n" for name, p in model.named_parameters())
    expected = hashlib.sha256(("lorahub shapes 1\n" + "".join(lines)).encode()).hexdigest()
    assert BaseSpec.from_folder(folders("llama")).shapes == expected


def test_the_mark_of_weights_is_the_hash_of_samples_of_every_tensor(folders):
    samples, formats = hashlib.sha256(b"lorahub weights 1\n"), hashlib.sha256(b"lorahub formats 1\n")
    for name, parameter in sorted(tiny_model("llama").named_parameters()):
        flat = parameter.detach().flatten()
        count = flat.numel()
        whole = [(0, count)]
        four = [((count - 512) * place // 3 // 2 * 2, 512) for place in range(4)]
        for start, size in whole if count <= 2048 else four:
            samples.update(f"{name} F32 {start} {size}\n".encode() + flat[start : start + size].numpy().tobytes())
        formats.update(f"{name} F32\n".encode())
    expected = f"{samples.hexdigest()}-{formats.hexdigest()[:16]}"
    assert BaseSpec.from_folder(folders("llama")).weights == expected


def test_the_sketch_is_32_blocks_of_64_weights_at_places_that_names_and_shapes_fix(folders):
    model = tiny_model("llama")
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    text = "\n".join(f"{name} {layers[name].weight.numel()}" for name in sorted(layers))
    seed, expected, places = hashlib.sha256(text.encode()).digest(), [], []
    for index in range(32):
        draw = hashlib.sha256(seed + bytes([index])).digest()
        name = sorted(layers)[int.from_bytes(draw[:8], "big") % len(layers)]
        weights = layers[name].weight.detach().flatten()
        block = int.from_bytes(draw[8:16], "big") % (weights.numel() // 64)
        places.append(Place(name, 64 * block))
        expected.append(b"\x01" + weights[64 * block : 64 * block + 64].numpy().tobytes())
    spec = BaseSpec.from_folder(folders("llama"))
    assert sketch_places(spec.modules) == places
    assert base64.b64decode(spec.sketch) == b"\x01\x20" + b"".join(expected)


def test_files_of_an_unknown_architecture_may_name_things_otherwise_than_the_model(tmp_path):
    shapes = {"language_model.model.q_proj.weight": torch.zeros(64, 64)}
    config = {"model_type": "novel", "architectures": ["NovelForConditionalGeneration"]}
    save_file(shapes, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    on_disk = BaseSpec.from_folder(tmp_path)
    loaded = BaseSpec.from_tensors(config, {"model.language_model.q_proj.weight": TensorShape((64, 64), "F32")})
    other = BaseSpec.from_tensors(config, {"model.language_model.q_proj.weight": TensorShape((64, 96), "F32")})
    assert compare_identity(on_disk.identity(), loaded) is BaseMatch.UNKNOWN
    assert compare_identity(loaded.identity(), on_disk) is BaseMatch.UNKNOWN
    assert compare_identity(loaded.identity(), other) is BaseMatch.OTHER_MODEL
    assert compare_identity(on_disk.identity(), BaseSpec.from_folder(tmp_path)) is BaseMatch.SAME_WEIGHTS
    same_names = BaseSpec.from_tensors(config, {"language_model.model.q_proj.weight": TensorShape((64, 64), "F32")})
    assert same_names.shapes == on_disk.shapes.removeprefix("files:")


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, InvalidRequest, "no config.json"),
        ({"config.json": "{"}, InvalidRequest, "config.json is not JSON"),
        ({"config.json": '{"model_type": "llama", "model_type": "gpt2"}'}, InvalidRequest, "twice"),
        ({"config.json": "{}"}, InvalidRequest, "neither model.safetensors"),
        ({"config.json": "{}", "pytorch_model.bin": ""}, Unsupported, "pickles"),
        ({"config.json": "{}", "model.safetensors": "x"}, InvalidSafetensors, "model.safetensors"),
        (
            {"config.json": "{}", "model.safetensors.index.json": '{"weight_map": {"a": "../x"}}'},
            InvalidRequest,
            "../x",
        ),
    ],
)
def test_what_is_no_models_folder_is_refused_with_the_reason(tmp_path, files, error, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        BaseSpec.from_folder(tmp_path)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-6, 0.02, 1.0, 300.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    double_quant=st.booleans(),
)
def test_codes_are_those_of_bitsandbytes(seed, scale, dtype, double_quant):
    torch.manual_seed(seed)
    weights = (torch.randn(8, nf4.BLOCK) * scale).to(dtype)
    packed, _ = quantize_4bit(weights, blocksize=nf4.BLOCK, quant_type="nf4", compress_statistics=double_quant)
    theirs = nf4.unpack_codes(packed.flatten().numpy().tobytes())
    ours = [code for row in weights.float().tolist() for code in nf4.code_ranges(row)]
    assert all(low <= code <= high for (low, high), code in zip(ours, theirs, strict=True))
    assert sum(low != high for low, high in ours) < len(ours) / 100


@given(st.floats(width=32, allow_nan=False))
def test_casts_are_those_of_torch(value):
    tensor = torch.tensor(value, dtype=torch.float32)
    assert nf4.to_bfloat16(value) == tensor.to(torch.bfloat16).item()
    assert nf4.to_float16(value) == tensor.to(torch.float16).item()


def test_every_architecture_of_the_sample_exists():
    assert set(ARCHITECTURE_SAMPLE) <= set(TINY_CONFIGS)
    assert tiny_config("gpt2").model_type == "gpt2"
