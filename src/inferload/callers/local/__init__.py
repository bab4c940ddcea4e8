"""A crew in this process: what is prepared, warned of and reported of its callers.

Read ``crew`` first.
"""
