"""What was asked for, checked before anything starts: model in words, loads, options, cores.

No torch. Read ``option_table`` first, then ``options``; ``arrivals`` says when calls are due.
"""
