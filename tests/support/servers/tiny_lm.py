"""A tiny causal language model with random weights, and its tokenizer, saved to a folder.

Llama's architecture with 2 layers of 64, and 512 tokens trained here on a few sentences. What it
says is nonsense. Greedy generation never picks a special token, nor one that is no printable text:
an answer is as long as ``max_tokens`` says, and each token is a piece.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = (
    "A queue forms when calls arrive faster than they are served.",
    "Two threads that share one lock take turns, however many cores the machine has.",
    "How many replicas do we need for Monday morning? Nobody remembers the average day.",
)
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]


def save(folder: Path) -> None:
    tokenizer = _tokenizer()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            pad_token_id=fast.pad_token_id,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
        )
    ).eval()
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(len(fast))]
    # a logit of 0 is never the largest of several hundred
    never = [
        n for n, text in enumerate(texts) if not (text and text.isascii() and text.isprintable())
    ]
    model.lm_head.weight.data[never] = 0.0
    model.generation_config.do_sample = False
    model.save_pretrained(folder)


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer
