"""What the machine is, and what it did meanwhile. No torch.

Read ``hardware`` first, then ``disturbances``.
"""
