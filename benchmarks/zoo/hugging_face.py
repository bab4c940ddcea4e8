"""Hugging Face models from small random configurations, with default arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from catalogue import row

if TYPE_CHECKING:
    from catalogue import Made

GROUP = "Hugging Face"
NEEDS = ("transformers",)
IDS = 100
SMALL: dict[str, Any] = {
    "vocab_size": IDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def ids(length: int, batch: int = 2) -> torch.Tensor:
    """Random ids of tokens, ``(batch, length)``."""
    return torch.randint(3, IDS, (batch, length))


def texts(length: int = 12) -> list[dict[str, torch.Tensor]]:
    """Two inputs as a tokenizer makes them: ids, and a mask that leaves out some padding."""
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, length - 3 :] = 0
    return [{"input_ids": ids(length), "attention_mask": mask} for _ in range(2)]


def _llama() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=1))


@row(GROUP, "BertModel", needs=NEEDS)
def bert() -> Made:
    """Give a dataclass of two tensors."""
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**SMALL)), texts()


@row(GROUP, "BertModel, two lengths", needs=NEEDS)
def bert_lengths() -> Made:
    """Take inputs of two lengths, so that a dimension is dynamic."""
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**SMALL)), [texts(8)[0], texts(13)[0]]


@row(GROUP, "BertForSequenceClassification", needs=NEEDS)
def bert_classifier() -> Made:
    """Give a dataclass with parts that are None."""
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(**SMALL)), texts()


@row(GROUP, "DistilBertModel", needs=NEEDS)
def distilbert() -> Made:
    """A config with names of its own."""
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=IDS, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    return DistilBertModel(config), texts()


@row(GROUP, "GPT2LMHeadModel", needs=NEEDS)
def gpt2() -> Made:
    """Give logits and a cache."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=IDS, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    return GPT2LMHeadModel(config), texts()


@row(GROUP, "LlamaForCausalLM", needs=NEEDS)
def llama() -> Made:
    """Give logits and a cache."""
    return _llama(), texts()


@row(GROUP, "LlamaForCausalLM, decoding", needs=NEEDS)
def llama_decoding() -> Made:
    """One more token after a cache of six, which each call makes longer."""
    module = _llama().eval()
    with torch.no_grad():
        cache = module(ids(6, 1), use_cache=True).past_key_values
    return module, [{"input_ids": ids(1, 1), "past_key_values": cache}]


@row(GROUP, "MixtralForCausalLM", needs=NEEDS)
def mixtral() -> Made:
    """A mixture of experts."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(**SMALL, num_key_value_heads=1, num_local_experts=4)
    return MixtralForCausalLM(config), texts()


@row(GROUP, "T5ForConditionalGeneration", needs=NEEDS)
def t5() -> Made:
    """Encoder and decoder; give a cache of both."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=IDS, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    return T5ForConditionalGeneration(config), [
        {**one, "decoder_input_ids": ids(5)} for one in texts()
    ]


@row(GROUP, "WhisperForConditionalGeneration", needs=NEEDS)
def whisper() -> Made:
    """Take a spectrogram and the first ids of a text."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=IDS,
        num_mel_bins=16,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=50,
        max_target_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return WhisperForConditionalGeneration(config), [
        {"input_features": torch.randn(1, 16, 100), "decoder_input_ids": ids(4, 1)}
        for _ in range(2)
    ]


@row(GROUP, "ViTForImageClassification", needs=NEEDS)
def vit() -> Made:
    """Images into logits."""
    from transformers import ViTConfig, ViTForImageClassification

    shape = {"image_size": 32, "patch_size": 8, **SMALL}
    shape.pop("vocab_size")
    return ViTForImageClassification(ViTConfig(**shape)), [
        {"pixel_values": torch.randn(1, 3, 32, 32)} for _ in range(2)
    ]


@row(GROUP, "CLIPModel", needs=NEEDS)
def clip() -> Made:
    """Images and texts; give dataclasses within a dataclass."""
    from transformers import CLIPConfig, CLIPModel

    text = {**SMALL, "max_position_embeddings": 20, "eos_token_id": 2, "bos_token_id": 1}
    image = {**SMALL, "image_size": 32, "patch_size": 8}
    image.pop("vocab_size")
    config = CLIPConfig(text_config=text, vision_config=image, projection_dim=16)
    return CLIPModel(config), [
        {**one, "pixel_values": torch.randn(2, 3, 32, 32)} for one in texts()
    ]


@row(GROUP, "Wav2Vec2ForCTC", needs=NEEDS)
def wav2vec2() -> Made:
    """Sound into logits; weight_norm within."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        **SMALL,
        conv_dim=(16, 16),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=16,
    )
    return Wav2Vec2ForCTC(config), [{"input_values": torch.randn(1, 1600)} for _ in range(2)]
