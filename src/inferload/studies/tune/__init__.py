"""The search for the best configuration of callers, processes, threads and forms.

Read ``tuner`` first.
"""
