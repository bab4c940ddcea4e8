"""What studies say, as text.

Read ``sweeps`` first.
"""
