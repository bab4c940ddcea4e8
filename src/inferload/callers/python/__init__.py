"""Python callers: one thread each.

Read ``executor`` first, then ``caller``.
"""
