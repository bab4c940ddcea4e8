"""When calls are due: closed and open loops, stages, clients, recorded times.

No torch. Read ``loads`` first, then ``schedule``.
"""
