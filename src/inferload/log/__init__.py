"""Every call of a run: columns, failures, the ring file, counts, several logs into one.

No torch. Read ``calls`` first, then ``ring``.
"""
