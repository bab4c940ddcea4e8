"""The kinds of targets: each is what is called, in one of the forms that models ship in.

Read ``python`` first.
"""
