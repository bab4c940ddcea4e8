"""What studies are told as, and kept as. Pure data.

Read ``settings`` first.
"""
