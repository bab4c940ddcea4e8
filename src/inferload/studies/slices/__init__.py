"""Two sides that stay loaded and are called in turn by slices, in pairs of fresh processes."""

from __future__ import annotations
