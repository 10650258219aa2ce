"""Tiny random bases of many architectures and task heads, and inputs that they run on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as tf

VOCABULARY = 96
TOKENS = torch.tensor([[5, 17, 3, 88, 42, 7, 7, 61], [9, 1, 30, 12, 95, 2, 64, 33]])
DECODER = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
ENCODER = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "pad_token_id": 0,
}  # fmt: skip
SEQ2SEQ = {
    "vocab_size": VOCABULARY, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
VISION = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip

Inputs = Callable[[], dict[str, torch.Tensor]]


def text() -> dict[str, torch.Tensor]:
    return {"input_ids": TOKENS.clone()}


def pairs() -> dict[str, torch.Tensor]:
    return {"input_ids": TOKENS.clone(), "decoder_input_ids": TOKENS[:, :4].clone()}


def image() -> dict[str, torch.Tensor]:
    return {"pixel_values": _noise(2, 3, 32, 32)}


def image_and_text() -> dict[str, torch.Tensor]:
    return {**image(), "input_ids": TOKENS.clone(), "attention_mask": torch.ones_like(TOKENS)}


def mel() -> dict[str, torch.Tensor]:
    return {"input_features": _noise(2, 8, 40), "decoder_input_ids": TOKENS[:, :4].clone()}


def sound() -> dict[str, torch.Tensor]:
    return {"input_values": _noise(2, 1600)}


def llava_turn() -> dict[str, torch.Tensor]:
    """Sixteen places for an image's patches, then text."""
    ids = torch.cat([torch.full((2, 16), 90), TOKENS.clamp(max=89)], dim=1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **image()}


def qwen_turn() -> dict[str, torch.Tensor]:
    """One image of 4 x 4 patches a row, which merge to 2 x 2 tokens."""
    ids = torch.cat(
        [torch.tensor([[91]]), torch.full((1, 4), 90), torch.tensor([[92]]), TOKENS[:1].clamp(max=89)], dim=1
    )
    types = (ids == 90).int()
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": types,
        "pixel_values": _noise(16, 3 * 2 * 14 * 14),
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
    }


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@dataclass(frozen=True)
class BaseKind:
    """One architecture with one task head.

    targets: names of linear layers to draw from.  task: PEFT's task_type.
    embedding: what the input embedding is called, or None.  heads: what may be in modules_to_save.
    """

    model: str
    config: Callable[[], Any]
    targets: tuple[str, ...]
    inputs: Inputs = text
    task: str | None = "CAUSAL_LM"
    embedding: str | None = "embed_tokens"
    saved: tuple[str, ...] = ()
    others: tuple[str, ...] = field(default=())

    def write(self, folder: Path, seed: int = 0) -> Path:
        """Write the model with random weights that matter, the same for the same seed."""
        torch.manual_seed(seed)
        model = getattr(tf, self.model)(self.config())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim < 2:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
                else:
                    parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
                    if name.endswith("Attention.q.weight"):
                        parameter.mul_(0.25)  # T5 divides no score by the root of its width
        model.save_pretrained(folder)
        return folder

    def open(self, folder: Path, **options: Any) -> Any:
        return getattr(tf, self.model).from_pretrained(folder, **options).eval()


QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
BERT = ("query", "key", "value", "dense")


def _decoder(model: str, config: Any, *extra: str, **sizes: Any) -> BaseKind:
    return BaseKind(model, lambda: config(**(DECODER | sizes)), extra or (*QKVO, *MLP), saved=("lm_head",))


def _encoder(model: str, config: Any, task: str | None, saved: str, **sizes: Any) -> BaseKind:
    return BaseKind(
        model, lambda: config(**(ENCODER | sizes)), BERT, task=task, embedding="word_embeddings", saved=(saved,)
    )


def _vision_language() -> Any:
    text_config = tf.LlamaConfig(**DECODER)
    vision = tf.CLIPVisionConfig(**VISION, projection_dim=64)
    return tf.LlavaConfig(vision_config=vision, text_config=text_config, image_token_index=90, image_seq_length=16)


def _qwen_vl() -> Any:
    vision = {
        "depth": 2, "hidden_size": 64, "num_heads": 4, "intermediate_size": 64, "out_hidden_size": 64,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 56,
        "fullatt_block_indexes": [1],
    }  # fmt: skip
    sizes = DECODER | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    return tf.Qwen2_5_VLConfig(
        text_config=sizes, vision_config=vision, image_token_id=90, vision_start_token_id=91, vision_end_token_id=92,
        video_token_id=93,
    )  # fmt: skip


def _clip() -> Any:
    words = {k: v for k, v in DECODER.items() if k != "num_key_value_heads"}
    return tf.CLIPConfig(
        text_config=words | {"max_position_embeddings": 64, "projection_dim": 64},
        vision_config=VISION | {"projection_dim": 64},
        projection_dim=64,
    )


LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
    "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4,
    "n_shared_experts": 1, **EXPERTS,
}  # fmt: skip

BASES: Mapping[str, BaseKind] = {
    "llama": _decoder("LlamaForCausalLM", tf.LlamaConfig),
    "llama-tied": _decoder("LlamaForCausalLM", tf.LlamaConfig, tie_word_embeddings=True),
    "llama-biased": _decoder("LlamaForCausalLM", tf.LlamaConfig, attention_bias=True, mlp_bias=True),
    "llama-classifier": BaseKind(
        "LlamaForSequenceClassification", lambda: tf.LlamaConfig(**DECODER, num_labels=3), (*QKVO, *MLP),
        task="SEQ_CLS", saved=("score",),
    ),
    "llama-tokens": BaseKind(
        "LlamaForTokenClassification", lambda: tf.LlamaConfig(**DECODER, num_labels=3), (*QKVO, *MLP),
        task="TOKEN_CLS", saved=("score",),
    ),
    "llama-body": BaseKind("LlamaModel", lambda: tf.LlamaConfig(**DECODER), (*QKVO, *MLP), task="FEATURE_EXTRACTION"),
    "mistral": _decoder("MistralForCausalLM", tf.MistralConfig),
    "qwen2": _decoder("Qwen2ForCausalLM", tf.Qwen2Config),
    "qwen3": _decoder("Qwen3ForCausalLM", tf.Qwen3Config, head_dim=16),
    "gemma": _decoder("GemmaForCausalLM", tf.GemmaConfig, head_dim=16),
    "gemma2": _decoder("Gemma2ForCausalLM", tf.Gemma2Config, head_dim=16),
    "gemma3": _decoder("Gemma3ForCausalLM", tf.Gemma3TextConfig, head_dim=16),
    "phi": _decoder("PhiForCausalLM", tf.PhiConfig, "q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    "phi3": _decoder("Phi3ForCausalLM", tf.Phi3Config, "qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "gpt2": BaseKind(
        "GPT2LMHeadModel", lambda: tf.GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=64, n_layer=2, n_head=4),
        ("c_attn", "c_proj", "c_fc"), embedding="wte", saved=("ln_f",),
    ),
    "opt": BaseKind(
        "OPTForCausalLM", lambda: tf.OPTConfig(
            vocab_size=VOCABULARY, hidden_size=64, ffn_dim=128, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64, word_embed_proj_dim=64),
        ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"), saved=("final_layer_norm",),
    ),
    "bloom": BaseKind(
        "BloomForCausalLM", lambda: tf.BloomConfig(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4),
        ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"), embedding="word_embeddings", saved=("ln_f",),
    ),
    "gpt_neox": _decoder("GPTNeoXForCausalLM", tf.GPTNeoXConfig, "query_key_value", "dense", "dense_h_to_4h"),
    "falcon": _decoder("FalconForCausalLM", tf.FalconConfig, "query_key_value", "dense", "dense_h_to_4h"),
    "mixtral": _decoder("MixtralForCausalLM", tf.MixtralConfig, *QKVO, **EXPERTS),
    "qwen3_moe": _decoder("Qwen3MoeForCausalLM", tf.Qwen3MoeConfig, *QKVO, **EXPERTS),
    "deepseek_v3": _decoder(
        "DeepseekV3ForCausalLM", tf.DeepseekV3Config, "q_a_proj", "q_b_proj", "kv_b_proj", "o_proj", *MLP, **LATENT
    ),
    "bert-mlm": _encoder("BertForMaskedLM", tf.BertConfig, None, "LayerNorm"),
    "bert-classifier": _encoder("BertForSequenceClassification", tf.BertConfig, "SEQ_CLS", "classifier", num_labels=3),
    "bert-tokens": _encoder("BertForTokenClassification", tf.BertConfig, "TOKEN_CLS", "classifier", num_labels=3),
    "bert-answers": _encoder("BertForQuestionAnswering", tf.BertConfig, "QUESTION_ANS", "qa_outputs"),
    "bert-body": _encoder("BertModel", tf.BertConfig, "FEATURE_EXTRACTION", "pooler"),
    "roberta-classifier": _encoder(
        "RobertaForSequenceClassification", tf.RobertaConfig, "SEQ_CLS", "classifier", num_labels=3
    ),
    "deberta-classifier": BaseKind(
        "DebertaV2ForSequenceClassification", lambda: tf.DebertaV2Config(**ENCODER, num_labels=3),
        ("query_proj", "key_proj", "value_proj", "dense"), task="SEQ_CLS", embedding="word_embeddings",
        saved=("classifier",),
    ),
    "distilbert-classifier": BaseKind(
        "DistilBertForSequenceClassification", lambda: tf.DistilBertConfig(
            vocab_size=VOCABULARY, dim=64, hidden_dim=128, n_layers=2, n_heads=4, num_labels=3, dropout=0.0,
            attention_dropout=0.0, seq_classif_dropout=0.0),
        ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"), task="SEQ_CLS", embedding="word_embeddings",
        saved=("pre_classifier", "classifier"),
    ),
    "t5": BaseKind(
        "T5ForConditionalGeneration", lambda: tf.T5Config(
            vocab_size=VOCABULARY, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, decoder_start_token_id=0),
        ("q", "k", "v", "o", "wi", "wo"), pairs, "SEQ_2_SEQ_LM", "shared", ("final_layer_norm",),
    ),
    "bart": BaseKind(
        "BartForConditionalGeneration", lambda: tf.BartConfig(**SEQ2SEQ),
        ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"), pairs, "SEQ_2_SEQ_LM", "shared",
        ("final_layer_norm",),
    ),
    "m2m100": BaseKind(
        "M2M100ForConditionalGeneration", lambda: tf.M2M100Config(**SEQ2SEQ),
        ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"), pairs, "SEQ_2_SEQ_LM", "shared",
        ("final_layer_norm",),
    ),
    "whisper": BaseKind(
        "WhisperForConditionalGeneration", lambda: tf.WhisperConfig(
            **(SEQ2SEQ | {"decoder_start_token_id": 1}), num_mel_bins=8, max_source_positions=20,
            max_target_positions=32, suppress_tokens=None, begin_suppress_tokens=None),
        ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"), mel, None, None, ("final_layer_norm",),
    ),
    "wav2vec2": BaseKind(
        "Wav2Vec2ForCTC", lambda: tf.Wav2Vec2Config(
            vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
            conv_dim=(64, 64), conv_stride=(5, 4), conv_kernel=(10, 4), num_feat_extract_layers=2,
            num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, feat_extract_norm="layer",
            apply_spec_augment=False, layerdrop=0.0),
        ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense"), sound, None, None, ("lm_head",),
    ),
    "vit": BaseKind(
        "ViTForImageClassification", lambda: tf.ViTConfig(**VISION, num_labels=3),
        ("q_proj", "v_proj", "o_proj", "fc1", "fc2"), image, None, None, ("classifier",), ("projection",),
    ),
    "clip": BaseKind(
        "CLIPModel", _clip, ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"), image_and_text, None,
        "token_embedding", ("visual_projection",), ("patch_embedding",),
    ),
    "llava": BaseKind(
        "LlavaForConditionalGeneration", _vision_language, (*QKVO, *MLP), llava_turn, None, "embed_tokens",
        ("multi_modal_projector",),
    ),
    "qwen2_5_vl": BaseKind(
        "Qwen2_5_VLForConditionalGeneration", _qwen_vl, (*QKVO, *MLP, "qkv"), qwen_turn, None, "embed_tokens",
        ("merger",), ("proj",),
    ),
}  # fmt: skip
