"""The door for test suites: what pytest's plugin measures and compares, test by test.

Read ``bench`` first.
"""
