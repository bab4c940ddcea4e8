"""Reports, each drawn from a saved result only."""
