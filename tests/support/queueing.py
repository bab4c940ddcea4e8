"""Queues whose answers are known, and a simulation of them that is fast enough for many searches.

``simulated_queue`` serves one queue with c callers exactly (a heap of free callers), as the callers
of an open loop do; tests/statistical holds it against the code that runs.
"""

from __future__ import annotations

import heapq
import math
from types import SimpleNamespace

import numpy as np

from inferload.log.calls import CallLog
from inferload.stats.limits.judging import says_enough
from inferload.stats.summary import cut_of, judged, summarize


def mmc_response_over(time_s: float, rate: float, service_rate: float, servers: int) -> float:
    """The chance that a response of M/M/c takes longer (Gross & Harris, Fundamentals, 2.3)."""
    load = rate / service_rate
    rho = load / servers
    terms = sum(load**k / math.factorial(k) for k in range(servers))
    last = load**servers / math.factorial(servers) / (1 - rho)
    waits = last / (terms + last)  # Erlang C
    spare = servers * service_rate - rate
    if math.isclose(spare, service_rate):
        served = math.exp(-service_rate * time_s)
        return served + waits * service_rate * time_s * served
    # a wait, exponential with rate `spare` where there is one, and then a service
    both = (spare * math.exp(-service_rate * time_s) - service_rate * math.exp(-spare * time_s)) / (
        spare - service_rate
    )
    return (1 - waits) * math.exp(-service_rate * time_s) + waits * both


def highest_rate(limit_s: float, q: float, service_rate: float, servers: int) -> float:
    """The rate at which the q-quantile of the response is the limit."""
    low, high = 0.0, servers * service_rate
    for _ in range(60):
        middle = (low + high) / 2
        over = mmc_response_over(limit_s, middle, service_rate, servers)
        low, high = (middle, high) if over < 1 - q else (low, middle)
    return low


def simulated_queue(due_s: np.ndarray, service_s: np.ndarray, servers: int) -> CallLog:
    """The log of calls that are due then and take so long, from one queue."""
    free, starts = [0.0] * servers, []
    replace = heapq.heapreplace
    for due, service in zip(due_s.tolist(), service_s.tolist(), strict=True):
        first = free[0]
        begin = max(first, due)
        replace(free, begin + service)
        starts.append(begin)
    started = np.array(starts)
    return log_of(due_s, started, started + service_s)


def log_of(due_s: np.ndarray, started_s: np.ndarray, finished_s: np.ndarray) -> CallLog:
    count = len(due_s)
    columns = {
        name: np.round(values * 1e9).astype(np.int64)
        for name, values in (
            ("scheduled_ns", due_s), ("started_ns", started_s), ("finished_ns", finished_s),
        )
    }  # fmt: skip
    return CallLog(
        **columns,
        caller=np.zeros(count, np.int32),
        input=np.zeros(count, np.int32),
        error=np.full(count, -1, np.int32),
        open_loop=True,
    )


class SimulatedProber:
    """M/M/c, in time that is only counted."""

    def __init__(self, limits, service_rate: float, servers: int, seed: int) -> None:
        self.limits, self.service_rate, self.servers = limits, service_rate, servers
        self.seed, self.time_s, self.calls = seed, 0.0, 0
        self.probed: list[object] = []

    def has_probed(self, probe) -> None:
        self.probed.append(probe)

    def clock(self) -> float:
        return self.time_s

    def closed_loop(self, duration_s: float) -> float:
        self.time_s += duration_s
        return self.servers * self.service_rate

    def probe(self, rate_per_s: float, duration_s: float, seed: int, *, decide: bool):
        drawn = np.random.default_rng([self.seed, seed])
        count = max(int(rate_per_s * duration_s), 1)
        due_s = np.cumsum(drawn.exponential(1 / rate_per_s, count))
        service_s = drawn.exponential(1 / self.service_rate, count)
        log = simulated_queue(due_s, service_s, self.servers)
        if decide:
            log = self._decided(log)
        self.time_s += float(log.finished_ns.max()) / 1e9
        self.calls += len(log)
        return result_of(log)

    def _decided(self, log: CallLog) -> CallLog:
        """The calls until they say whether the limits are kept."""
        count = 400
        while count < len(log):
            part = log.rows(np.arange(count))
            if says_enough(part, self.limits, cut_of(judged(part))):
                return part
            count = count * 3 // 2
        return log


def result_of(log: CallLog):
    summary = summarize(log, [1], callers=4, from_s=cut_of(judged(log)))
    return SimpleNamespace(
        log=log, summary=summary, run_id="0", created_at="", status="complete", spec=None,
        set_up=None, warnings=(),
    )  # fmt: skip
