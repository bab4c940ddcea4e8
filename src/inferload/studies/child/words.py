"""What a process that makes the runs of a study says."""

# (STAGE, text), (PROGRESS, calls, seconds), (DONE, what came of it), (FAILED, name of the class,
# text, place, path of a result or None).
STAGE, PROGRESS, DONE, FAILED = "stage", "progress", "done", "failed"
# What it is asked for: (RUN, options, settings, path), after which a result lies there; (OUTPUTS,
# options, path of the other side's outputs or None, path): outputs lie there, or are compared.
RUN, OUTPUTS = "run", "outputs"
