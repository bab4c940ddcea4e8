"""examples/minilm.py, as the servers of MiniLM import it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))
from transformers import AutoTokenizer

import minilm

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
model = minilm.model


def tokenizer():
    return AutoTokenizer.from_pretrained(minilm._folder(), local_files_only=True)
