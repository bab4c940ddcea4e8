"""Which entry of a log takes a failure that has none of its own: one of its class."""

from __future__ import annotations

from inferload.log.calls import DISTINCT_ERRORS, DISTINCT_OF_A_CLASS


class Classes:
    """The classes of the distinct failures of a log, as they are added."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def number_of(self, name: str, known: int) -> int:
        """The number of a new distinct failure of a class, where ``known`` are known.

        ``known`` itself: it has an entry of its own; else the entry that takes it.

        >>> own = Classes()
        >>> numbers = [own.number_of("A", known) for known in range(DISTINCT_OF_A_CLASS)]
        >>> numbers[-1], own.number_of("A", 224), own.number_of("B", 224), own.number_of("A", 225)
        (223, 223, 224, 223)
        """
        count = self._counts.get(name, 0)
        if count == DISTINCT_OF_A_CLASS or known == DISTINCT_ERRORS:
            return self._last.get(name, DISTINCT_ERRORS - 1)
        self._counts[name], self._last[name] = count + 1, known
        return known
