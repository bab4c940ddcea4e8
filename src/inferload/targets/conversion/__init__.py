"""A model into another form: scripted, exported, compiled ahead of time, within a time limit.

Read ``exporting`` first.
"""
