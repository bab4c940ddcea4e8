"""A crew in processes of their own: what starts them, and what each of them does.

Read ``crew`` first, then ``worker``.
"""
