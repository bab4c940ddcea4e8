"""Who calls: the job, and the crews that do it.

Read ``job`` first, then ``crew``.
"""
