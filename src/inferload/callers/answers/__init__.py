"""What calls return: brought to its end where it is not whole, its pieces timed, copies kept.

Read ``used_up`` first.
"""
