"""How servers are spoken to: bodies from inputs, and what answers are.

Read ``protocol`` first.
"""
