"""What bounds a run, by changes that are tried. Read ``explainer`` first."""
