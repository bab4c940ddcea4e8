"""Studies whose runs are made in a process of its own, or in fresh ones, one after another.

Read ``bench`` first.
"""
