"""Callers that are tasks of one event loop, for models whose calls are coroutines.

Read ``executor`` first, then ``caller``.
"""
