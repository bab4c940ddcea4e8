"""One run: a crew is driven through it, and what it left behind becomes a checked result.

Read ``run`` first, then ``run_crew``.
"""
