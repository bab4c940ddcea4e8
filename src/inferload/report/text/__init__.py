"""The report as text: every word is made here once, of rich tables and texts.

Read ``run`` first.
"""
