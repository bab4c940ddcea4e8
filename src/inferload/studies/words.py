"""What a process that makes the runs of a study says."""

# (STAGE, text), (PROGRESS, calls, seconds), (DONE, path), (FAILED, name of the class, text, place,
# path or None).
STAGE, PROGRESS, DONE, FAILED = "stage", "progress", "done", "failed"
