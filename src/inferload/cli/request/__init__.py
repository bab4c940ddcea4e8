"""What the user wrote: flags, values, run files, revisions, and how it was asked.

Read ``asked`` first.
"""
