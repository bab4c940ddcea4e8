"""Python callers: one thread each, and what they share with tasks.

Read ``executor`` first, then ``caller``.
"""
