"""Words become a target with inputs, in a form, on a device.

Read ``base`` first, then ``as_target``; ``loading`` has all of the way.
"""
