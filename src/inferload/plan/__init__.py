"""What was asked for, checked before anything starts: model in words, loads, options, cores.

No torch. Read ``options`` first, then ``loads``.
"""
