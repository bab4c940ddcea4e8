"""Logs of calls that answer in pieces at times that are known."""

from __future__ import annotations

import numpy as np

from inferload.log.calls import COLUMNS, OPTIONAL, PIECES, CallLog
from inferload.log.piece_times import CALLS_DTYPE, PieceTimes

MS = 1_000_000


def log_of_streams(
    calls: int, *, tokens_a_piece: int = 1, failed: int = 0, whole: int = 0, share: float = 1.0
) -> CallLog:
    """Calls every 100 ms, due 4 ms before they start, of five pieces: 20 ms, then gaps of 5 ms.

    They end 1 ms after the last piece. The last ``failed`` raised, the first ``whole`` gave none.
    """
    number = np.arange(calls)
    started = (100 * number + 4) * MS
    plain = number < whole
    columns = {
        "scheduled_ns": started - 4 * MS,
        "started_ns": started,
        "finished_ns": started + 41 * MS,
        "caller": number % 2,
        "input": number % 2,
        "error": np.where(number >= calls - failed, 0, -1),
        "first_piece_ns": np.where(plain, -1, 20 * MS),
        "last_piece_ns": np.where(plain, -1, 40 * MS),
        "pieces": np.where(plain, -1, 5),
        "tokens": np.where(plain, -1, 5 * tokens_a_piece),
    }
    dtypes = COLUMNS | {name: OPTIONAL[name] for name in PIECES}
    log = CallLog.of(
        {name: columns[name].astype(dtype) for name, dtype in dtypes.items()}, open_loop=True
    )
    kept = number[~plain]
    found = np.zeros(len(kept), CALLS_DTYPE)
    for name in ("caller", "input", "started_ns"):
        found[name] = columns[name][kept]
    found["pieces"], found["returned"] = 5, columns["error"][kept] < 0
    found["drawn"] = np.random.default_rng(0).random(len(kept))
    times = (found["started_ns"][:, None] + (20 + 5 * np.arange(5)) * MS).ravel()
    sample = PieceTimes(calls=found, times_ns=times).thinned(share)
    object.__setattr__(log, "piece_times", sample)
    return log
