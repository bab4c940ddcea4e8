"""``python -m inferload``."""

from inferload.cli.main import main

if __name__ == "__main__":  # a process that callers run in imports this module as well
    main()
