"""Many runs that together answer one question.

Read ``bench`` first, then ``sweep``.
"""
