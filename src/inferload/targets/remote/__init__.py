"""Models behind servers: how they are spoken to, and what they answer.

Read ``target`` first, then ``protocols``. ``wire`` sends; ``said`` has what servers count.
"""
