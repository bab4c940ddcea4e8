"""What a process that makes the runs of a study says."""

# (STAGE, text), (PROGRESS, calls, seconds), (DONE, what came of it), (FAILED, name of the class,
# text, place, path of a result or None).
STAGE, PROGRESS, DONE, FAILED = "stage", "progress", "done", "failed"
# What it is asked for: (RUN, options, settings, path), after which a result lies there; (OUTPUTS,
# options, path of the other side's outputs or None, path): outputs lie there, or are compared;
# (OPEN, options, settings, cores of each caller), which prepares calls and says of what run they
# would be; then again and again (SLICE, None, seconds, warm-up calls), which makes some.
RUN, OUTPUTS, OPEN, SLICE = "run", "outputs", "open", "slice"
