"""The door for words: flags to objects, run, render. The only place that prints or exits.

Read ``app`` first, then ``commands.run``.
"""
