"""What runs the callers: Python threads and native threads."""
