"""What the user wrote: flags, values, run files, and how it was asked.

Read ``asked`` first.
"""
