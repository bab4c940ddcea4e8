"""Studies whose runs are made in a process of its own, which loads the model once.

Read ``bench`` first.
"""
