"""Runs on many machines: ranks that torchrun started, the first of which merges all results."""
