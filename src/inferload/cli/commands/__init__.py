"""A file for each verb.

Read ``run`` first.
"""
