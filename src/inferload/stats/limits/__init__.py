"""What a service promises, and whether the calls of a run say that it is kept.

Read ``limit`` first, then ``judging``.
"""
