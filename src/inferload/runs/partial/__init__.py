"""A run that is under way, as files: should all of its processes be killed, they tell of it.

Read ``keeping`` first, then ``finding``.
"""
