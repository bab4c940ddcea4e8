"""Reports, each told from a saved result only. No torch.

Read ``text.run`` first.
"""
