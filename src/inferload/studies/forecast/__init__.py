"""What a fleet of replicas will do, by event simulation from what was measured.

Read ``forecaster`` first: it asks ``simulation`` for one point after another, which goes through
``events``, request by request.
"""
