"""Requests that callers put together and call at once, as the instances of a server do.

Read ``queue`` first, then ``work``.
"""
