"""Figures from a log: summary, steady state, intervals, limits. No torch.

Read ``summary`` first.
"""
