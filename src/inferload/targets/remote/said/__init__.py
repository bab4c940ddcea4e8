"""What servers count themselves: read before and after a run, and the difference kept.

Read ``reading`` first.
"""
