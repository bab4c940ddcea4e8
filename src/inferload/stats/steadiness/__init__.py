"""Whether a run was steady, kept the pace it was asked for, or fell behind.

No torch. Read ``steady_state`` first.
"""
