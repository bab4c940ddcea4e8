"""How the figures of a run are made, in a sentence each, for those who check them."""

from __future__ import annotations

#: What docs/measuring.md says at length.
OF_A_RUN = {
    "Times": "Each caller reads the monotonic clock right before and right after each call. A call "
    "is scheduled, started and finished; queue = started - scheduled, service = finished - "
    "started, response = finished - scheduled. In a closed loop calls are scheduled when they "
    "start, and those of clients when the last one was answered, or their think time later.",
    "Batches": "A free caller takes the request that has been due for longest, waits for others as "
    "the limits say, puts them together (gather, a part of service) and calls once; all start and "
    "finish together. Wait for an instance: no caller was free. Wait for the batch: a free caller "
    "held the request back. Padding: of the values given to the model, those of no request.",
    "Quantiles": "The q-quantile of n calls is the value of rank ceil(q n), without interpolation. "
    "Percentiles are never averaged, and nothing is removed as an outlier.",
    "Intervals": "95 %, by 40 batch means of calls that lie next to each other in time, because "
    "calls near each other are alike. A quantile is quoted only if enough calls lie beyond it, of "
    "devices, processes, ranks and models too; - stands for one that is not, ~ before a figure by "
    "rank alone.",
    "Throughput": "Calls that returned per second, from the end of what is cut to the last finish; "
    "its interval is of the means of 40 batches of time.",
    "Steady state": "The run is cut into windows; MSER on their medians finds the warm-up, in the "
    "first half at most. It is unsteady if the rest drifts by more than 2 % (Theil-Sen) and that "
    "is no chance (Kendall, p < 0.01).",
    "Lateness": "How long after its due time, or after a caller was free, a call began: the "
    "harness's own fault. Of open loops and clients.",
    "Empty call": "What a call that does nothing takes in the same callers, the median. On a "
    "device it waits for the device, as a loop by hand does: the harness takes the difference.",
    "Little's law": "Throughput x mean response / calls in flight, which should be 1.",
    "First call": "The very first call of the target, which is in no other figure.",
}
