"""What a process that makes the runs of a study says."""

# (STAGE, text), (PROGRESS, calls, seconds), (DONE, what came of it), (FAILED, name of the class,
# text, place, path of a result or None).
STAGE, PROGRESS, DONE, FAILED = "stage", "progress", "done", "failed"
# What it is asked for, a word and three things: (RUN, options, settings, path): a result lies
# there after it; (OUTPUTS, options, path of the other side's outputs or None, path): outputs lie
# there, or are compared; (OPEN, options, settings, cores of each caller), which prepares calls and
# says of what run they would be; then again and again (SLICE, None, seconds, warm-up calls), which
# makes some. Of several settings at once: (OPEN_TURN, options, settings, None), (TURN, settings,
# seconds, warm-up calls), (WARMED, None, None, None) and (CLOSE_TURNS, None, None, None).
RUN, OUTPUTS, OPEN, SLICE = "run", "outputs", "open", "slice"
OPEN_TURN, TURN, WARMED, CLOSE_TURNS = "open turn", "turn", "warmed", "close turns"
