"""Native callers: the compiled extension, how it is built, and how it is driven.

Read ``executor`` first, then ``module.cpp``.
"""
