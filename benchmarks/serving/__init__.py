"""What ``servers.py`` measures with: servers of known times, clients to hold beside, four parts.

Programs of their own, without torch: ``sse_server``, ``stalling_server``, ``raw_streams`` and
``by_hand``. What starts tools and reads their results: ``ours`` and ``peers``.
"""
