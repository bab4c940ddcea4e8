"""The report as one HTML file, and in notebooks.

Read ``document`` first.
"""
