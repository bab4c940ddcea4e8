"""LitServe with MiniLM: POST /predict {"text": "..."} gives {"embedding": [...]}.

    python litserve_minilm.py PORT

Requests are called together, up to 8 within 20 ms, and how many these were is printed.
"""

from __future__ import annotations

import os
import signal
import sys

import litserve
from fastapi import HTTPException


class Embedder(litserve.LitAPI):
    def setup(self, device: str) -> None:
        import torch
        from embedder import model, tokenizer  # in the process that computes alone

        self._torch, self._model, self._tokenizer = torch, model(), tokenizer()

    def decode_request(self, request: dict) -> str:
        text = request.get("text") if isinstance(request, dict) else None
        if not isinstance(text, str) or not text:
            raise HTTPException(status_code=400, detail='want {"text": "..."}')
        return text

    def predict(self, texts: list[str]) -> list[list[float]]:
        print("batch of", len(texts), flush=True)
        encoded = self._tokenizer(texts, padding=True, return_tensors="pt")
        with self._torch.inference_mode():
            return self._model(encoded["input_ids"], encoded["attention_mask"]).tolist()

    def encode_response(self, output: list[float]) -> dict:
        return {"embedding": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Embedder(max_batch_size=8, batch_timeout=0.02), accelerator="cpu", workers_per_device=1
    )
    # LitServe ends its processes on Ctrl-C alone: a SIGTERM would leave them behind
    main = os.getpid()

    def stop(number, frame):
        if os.getpid() == main:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise KeyboardInterrupt
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
