"""Two sides that were called by slices in turn: ratios, intervals, and when there are enough."""

from __future__ import annotations
