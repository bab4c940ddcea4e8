"""Real servers with small models, each a program: ``support.real_servers`` starts and ends them.

They listen on 127.0.0.1 alone, and fetch nothing.
"""
