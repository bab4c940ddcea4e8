"""What a process that makes the runs of a study says."""

# (STAGE, text), (PROGRESS, calls, seconds), (DONE, what came of it), (FAILED, name of the class,
# text, place, path of a result or None).
STAGE, PROGRESS, DONE, FAILED = "stage", "progress", "done", "failed"
# What it is asked for, a word and three things: (RUN, options, settings, path): a result lies
# there after it; (OUTPUTS, options, path of the other side's outputs or None, path): outputs lie
# there, or are compared; (OPEN_TURN, options, turn, its name), which prepares calls and says of
# what run they would be; then again and again (TURN, name, seconds, warm-up calls), which makes
# some; (WARMED, None, None, None) and (CLOSE_TURNS, None, None, None). (TRACED, options, None,
# None): where the time goes within calls.
RUN, OUTPUTS, TRACED = "run", "outputs", "traced"
OPEN_TURN, TURN, WARMED, CLOSE_TURNS = "open turn", "turn", "warmed", "close turns"
