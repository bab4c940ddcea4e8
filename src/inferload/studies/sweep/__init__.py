"""A sweep: one or two settings with several values, each run once in each block.

Read ``sweeper`` first.
"""
