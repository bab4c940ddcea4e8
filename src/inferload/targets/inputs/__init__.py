"""Inputs: what callers pass, where it comes from, its copies, and what calls change of it.

Read ``call_input`` first.
"""
