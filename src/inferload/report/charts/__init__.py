"""Curves and series of a log as charts: the JSON of Plotly, without Plotly.

Read ``chart`` first.
"""
