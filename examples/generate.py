"""A causal language model that answers a token at a time.

    inferload run examples/generate.py --rate 4 --callers 2 --threads-per-call 1 --duration 20s
    inferload run examples/generate.py:compiled --callers 2 --threads-per-call 1 --calls 100
    inferload search examples/generate.py --limit "first p95<=100ms" --limit "gap p95<=20ms"

A small Llama of random weights: nothing is fetched, and its words mean nothing, but its loop is
that of every decoder: the prompt fills the key-value cache, then each step feeds one token and
yields the next. Prompts differ in length. Requests are served side by side, one caller each; a
server that has requests join and leave a batch between two tokens (continuous batching: vLLM, TGI)
does something else, and is measured from outside. Needs ``pip install 'inferload[examples]'``.
"""

from __future__ import annotations

import os
from inspect import signature
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StaticCache

if TYPE_CHECKING:
    from collections.abc import Iterator

# What transformers 5 renamed.
_CACHE = "cache" if "cache" in signature(LlamaForCausalLM.forward).parameters else "past_key_values"
VOCABULARY, NEW_TOKENS, LONGEST = 2000, 24, 128
PROMPTS = (8, 16, 32, 64)


class Generator(torch.nn.Module):
    """Prompts to tokens, greedily: each call has a cache of its own.

    ``compiled``: the step of one token is, over a cache of one size, so that it is compiled once.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=LONGEST,
        )
        self.decoder = LlamaForCausalLM(config).eval()
        self._static = compiled
        self._step = torch.compile(self._next, dynamic=False) if compiled else self._next

    def forward(self, input_ids: torch.Tensor) -> Iterator[int]:
        """Take int64 token ids of shape ``(1, tokens)``, yield one token after another."""
        config, length = self.decoder.config, input_ids.shape[1]
        cache = StaticCache(config, max_cache_len=LONGEST) if self._static else DynamicCache()
        token = self._next(input_ids, torch.arange(length)[None], cache)
        yield int(token)
        for place in range(length, length + NEW_TOKENS - 1):
            token = self._step(token, torch.tensor([[place]]), cache)
            yield int(token)

    def _next(
        self, ids: torch.Tensor, places: torch.Tensor, cache: DynamicCache | StaticCache
    ) -> torch.Tensor:
        """The token after these ids, of shape ``(1, 1)``."""
        kept = {_CACHE: cache, "use_cache": True}
        found = self.decoder(ids, position_ids=places, logits_to_keep=1, **kept)
        token: torch.Tensor = found.logits[:, -1].argmax(-1, keepdim=True)
        return token


def model() -> torch.nn.Module:
    """The generator, every operator by itself."""
    return Generator()


def compiled() -> torch.nn.Module:
    """The generator, its step compiled."""
    return Generator(compiled=True)


def inputs() -> list[torch.Tensor]:
    """Prompts of several lengths."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(VOCABULARY, (1, length), generator=generator) for length in PROMPTS]
