"""What a target returns: its parts, whether two are the same, and calls that are not done.

Read ``comparing`` first.
"""
