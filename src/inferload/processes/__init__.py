"""Callers in processes of their own: the crew that starts them, and what each of them does."""
