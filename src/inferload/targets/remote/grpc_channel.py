"""How channels of gRPC are had: their options, and the authorities that are trusted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc


def options_for(answer_bytes: int) -> list[tuple[str, int]]:
    """The options of a channel whose answers have at most so many bytes."""
    return [
        ("grpc.max_receive_message_length", answer_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share a connection
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]


def credentials() -> Any:
    """The authorities that are trusted: gRPC's own, or SSL_CERT_FILE's."""
    own = os.environ.get("SSL_CERT_FILE")
    return grpc.ssl_channel_credentials(Path(own).read_bytes() if own else None)
