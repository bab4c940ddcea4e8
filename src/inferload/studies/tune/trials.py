"""The runs of candidates, as far as they are made: who is ahead, who is out, who is the default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.studies.tune.halving import judged_within, rank_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.studies.records.settings import Settings
    from inferload.studies.records.tuning import Trial

#: How a run is told that could not be made: so can none of its form.
REFUSED = "refused"


class Trials:
    """The trials of a tuning in the order of their making; ``before`` were made already."""

    def __init__(
        self, default: Settings, rounds: Sequence[tuple[int, float]], before: Sequence[Trial]
    ) -> None:
        self.made: list[Trial] = []
        self._default, self._rounds = default, rounds
        self._before = list(before)

    def taken_over(self) -> bool:
        """Take the next one of before an interruption, in whose order they are made."""
        if not self._before:
            return False
        self.made.append(self._before.pop(0))
        return True

    def take_over_rest(self) -> None:
        """Take those that failed as they were confirmed."""
        while self.taken_over():
            pass

    def refusal_of(self, settings: Settings) -> str | None:
        """Why a form cannot be had, if that is known from another candidate of it."""
        for one in self.made:
            same = (one.run.settings.form, one.run.settings.batch_size) == (
                settings.form, settings.batch_size,
            )  # fmt: skip
            if same and one.run.status == REFUSED:
                return one.run.failure
        return None

    def is_default_again(self, trial: Trial) -> bool:
        """Whether a candidate says in words what the default does by itself."""
        mine = [one.run.spec for one in self.made if one.run.settings == self._default]
        default, own = (mine[0] if mine else None), trial.run.spec
        if default is None or own is None or trial.run.settings == self._default:
            return False
        return all(
            getattr(default, name) == getattr(own, name)
            for name in ("callers", "processes", "threads_per_call", "form", "items_per_input")
        )

    def latest(self, settings: Settings) -> Trial | None:
        """The last trial of a candidate."""
        return next((one for one in reversed(self.made) if one.run.settings == settings), None)

    def ranked(self, place: int) -> list[Trial]:
        """The middle run of each candidate that came to the end of a round, the best first."""
        runs: dict[Settings, list[Trial]] = {}
        for one in self.made:
            if one.round == place:
                runs.setdefault(one.run.settings, []).append(one)
        whole = [own for own in runs.values() if all(one.run.failure is None for one in own)]
        return sorted((sorted(own, key=_rank)[len(own) // 2] for own in whole), key=_rank)

    def order(self) -> list[Trial]:
        """The latest trial of each candidate: those within the limits first, then those that came
        farther, then by rank.
        """  # noqa: D205 - the sentence is too long for a line
        latest: dict[Settings, Trial] = {}
        for place in range(len(self._rounds)):
            latest |= {one.run.settings: one for one in self.ranked(place)}
        return sorted(
            latest.values(),
            key=lambda one: (not judged_within(one.judgements), -one.round, _rank(one)),
        )


def _rank(trial: Trial) -> tuple[float, float]:
    summary = trial.run.summary
    rate = 0.0 if summary is None else summary.throughput_items_per_s.value
    return rank_of(rate, trial.judgements)
