"""``python -m inferload``."""

from inferload.cli import main

main()
