"""Studies of a model in this process: the functions of Python.

Read ``bench`` first.
"""
