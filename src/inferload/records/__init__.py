"""What a run is told as: what was asked, figures, result, endings. Pure data, no torch.

Read ``result`` first.
"""
