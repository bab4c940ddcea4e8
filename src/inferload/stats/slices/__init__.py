"""Two sides that were called by slices in turn: ratios, intervals, and when there are enough.

No torch. Read ``slice`` first, then ``ratios`` and ``judging``.
"""
