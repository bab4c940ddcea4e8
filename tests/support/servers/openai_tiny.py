"""`transformers serve` with a tiny language model: OpenAI's API.

    python openai_tiny.py PORT

The model is named "tiny-lm", and is gone with the server.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import tiny_lm
from transformers.cli.serve import Serve

if __name__ == "__main__":
    # uvicorn shuts down on SIGTERM and then sends it on: by an exception the folder goes as well
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="tiny-lm-") as folder:
        os.chdir(folder)  # the path as it is given here is the name of the model
        tiny_lm.save(Path("tiny-lm"))
        try:
            Serve(force_model="tiny-lm", host="127.0.0.1", port=int(sys.argv[1]), device="cpu")
        finally:
            os.chdir("/")
