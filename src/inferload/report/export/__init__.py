"""A result in the formats of other tools: a file a format.

Read ``writing`` first.
"""
