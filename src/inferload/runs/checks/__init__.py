"""What is doubtful about a run, and what may be advised of it.

Read ``result`` first.
"""
