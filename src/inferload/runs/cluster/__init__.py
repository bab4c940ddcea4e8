"""One run on many machines: ranks in step, the first of which merges all results.

Read ``rank`` first.
"""
