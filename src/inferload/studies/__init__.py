"""Studies: many runs that together answer one question."""
