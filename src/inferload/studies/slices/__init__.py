"""Two sides that stay loaded and are called in turn by slices, in pairs of fresh processes.

No torch. Read ``sides`` first, then ``engine``.
"""
