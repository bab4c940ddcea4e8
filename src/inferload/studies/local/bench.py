"""What makes the runs of a study in this process: each form of a model is loaded once."""

from __future__ import annotations

import gc
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.callers.local.slices import SlicedCalls
from inferload.callers.processes.crew import ProcessCrew
from inferload.callers.processes.handing import handed
from inferload.callers.python.thread_state import ThreadState
from inferload.errors import PlanError
from inferload.files import replacing
from inferload.plan.model import ModelSource
from inferload.runs.run import run_with
from inferload.runs.run_crew import run_crew
from inferload.studies.bench import with_settings
from inferload.studies.local.outputs import outputs_of
from inferload.studies.local.turns import LocalTurns
from inferload.targets.as_target import as_target, is_spec
from inferload.targets.forms import as_form
from inferload.targets.inputs.stacking import stacked
from inferload.targets.kinds.exported import AotiTarget
from inferload.targets.kinds.python import CompiledTarget
from inferload.targets.loading import load as loaded
from inferload.targets.loading import target_and_inputs
from inferload.targets.placing import Placement, placed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from inferload.callers.crew import Observer
    from inferload.plan.options import RunOptions
    from inferload.records.batches import BatchSpec
    from inferload.records.result import RunResult
    from inferload.studies.bench import Turn
    from inferload.studies.local.outputs import Outputs
    from inferload.studies.records.settings import Settings
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


class LocalBench:
    """Runs in this process, or in processes that it starts where they are asked for."""

    def __init__(
        self,
        load: Callable[
            [str | None, int | None, BatchSpec | None], tuple[Target, tuple[CallInput, ...]]
        ],
        source: ModelSource | None = None,
        *,
        apart: bool = False,
    ) -> None:
        self._load = load
        #: Where AOTInductor packages are kept for other processes; ``None``: nowhere.
        self.packages: Path | None = None
        #: Of a model in words, which other processes load by themselves; perhaps not its inputs.
        self._source = source
        self._apart = apart
        self._loaded: dict[Hashable, tuple[Target, tuple[CallInput, ...]]] = {}
        #: What cannot be made is not tried again: that would take as long each time.
        self._refused: dict[Hashable, PlanError] = {}

    @classmethod
    def of_model(cls, model: object, inputs: object) -> LocalBench:
        """Of a model, as ``il.run`` takes it.

        Raises:
            PlanError: it is no model, or has no inputs.
        """
        first, given = target_and_inputs(model, inputs)

        def load(
            form: str | None, size: int | None, batching: BatchSpec | None
        ) -> tuple[Target, tuple[CallInput, ...]]:
            own = given if size is None else stacked(given, size)
            return (first if form is None else as_form(first, form, own, batching=batching)), own

        named = isinstance(model, str) and is_spec(model)
        source = ModelSource(spec=str(model)) if named else None
        return cls(load, source, apart=inputs is not None)

    @classmethod
    def of_source(
        cls,
        source: ModelSource,
        placement: Placement,
        announce: Callable[[str], None],
        scratch: Path,
    ) -> LocalBench:
        """Of a model in words."""

        def load(
            form: str | None, size: int | None, batching: BatchSpec | None
        ) -> tuple[Target, tuple[CallInput, ...]]:
            folder = Path(tempfile.mkdtemp(dir=scratch))
            changed = replace(_changed(source, form, size), batching=batching)
            found = loaded(changed, announce, folder, placement=placement)
            return found.target, found.given

        return cls(load, source)

    def run(self, settings: Settings, options: RunOptions, observer: Observer) -> RunResult:
        """One run with what the settings change."""
        checked = with_settings(options, settings)
        form = settings.form or options.form
        size = settings.batch_size or options.batch_size
        checked = replace(checked, form=form, batch_size=size)
        if checked.processes is not None and self._source is not None:
            source = _changed(self._source, settings.form, settings.batch_size)
            source = replace(source, batching=_spec_of(checked))
            whole = checked.devices or source.members
            hand = None if whole else self._hand(settings, source, checked)
            with ProcessCrew(checked, source=source, hand=hand) as crew:
                return run_crew(crew, checked, observer)
        target, given = self._target(settings.form, settings.batch_size, _spec_of(checked))
        gc.collect()  # what the runs before have left, no run of the study is to be stopped for
        return run_with(target, given, checked, observer=observer)

    def _hand(
        self, settings: Settings, source: ModelSource, options: RunOptions
    ) -> Callable[[Path], bytes]:
        """How each process gets the form that was made here; on a device it makes its own."""
        target, given = self._target(settings.form, settings.batch_size, _spec_of(options))
        state = ThreadState.of_this_thread().portable
        return lambda scratch: handed(
            target, given, state, spec=source.spec, scratch=scratch, apart=self._apart
        )

    def sliced(self, turn: Turn) -> SlicedCalls:
        """Callers for slices."""
        checked = replace(with_settings(turn.options, turn.settings), processes=None)
        target, given = self._target(turn.settings.form, turn.settings.batch_size, None)
        placement = Placement(device=checked.device_of(0), transfers=checked.transfers)
        return SlicedCalls(*placed(target, given, placement), checked, turn.cpus, keep=turn.keep)

    def turns(self) -> LocalTurns:
        """Settings that are held open at once; none is yet."""
        return LocalTurns(self.sliced)

    def eager(self) -> tuple[Target | None, tuple[CallInput, ...]]:
        """The model before it was turned into a form; ``None``: there is only that form."""
        turned = self._source is not None and self._source.form not in {None, "eager"}
        target, given = self._target("eager" if turned else None, None, None)
        if isinstance(target, CompiledTarget):
            target = as_target(target.original)
        return (target if target.form in {"eager", "callable", "script"} else None), given

    def outputs(self, form: str | None = None) -> Outputs:
        """What the model computes of each input, called alone."""
        origin = None if self._source is None else self._source.spec
        return outputs_of(*self._target(form, None, None), origin)

    def _target(
        self, form: str | None, size: int | None, batching: BatchSpec | None
    ) -> tuple[Target, tuple[CallInput, ...]]:
        # a form is made of the inputs that it is to take, and of batches of them, of any size
        key = (form, size, batching is not None)
        if key in self._refused:
            raise self._refused[key]
        if key not in self._loaded:
            try:
                if form == "aoti" and batching is None and self.packages is not None:
                    self._loaded[key] = self._packaged(size, self.packages / f"of-{size}.pt2")
                else:
                    self._loaded[key] = self._load(form, size, batching)
            except PlanError as error:
                self._refused[key] = error
                raise
        return self._loaded[key]

    def _packaged(self, size: int | None, path: Path) -> tuple[Target, tuple[CallInput, ...]]:
        """The model as a package that is made once for all processes."""
        if not path.exists():
            made, _ = self._load("aoti", size, None)
            if not isinstance(made, AotiTarget) or made.path is None:
                raise AssertionError("the form is a package")
            with replacing(path) as temporary:
                shutil.copyfile(made.path, temporary)
        target, given = self._target(None, size, None)
        return AotiTarget(str(path), target.name), given


def _spec_of(options: RunOptions) -> BatchSpec | None:
    return None if options.batching is None else options.batching.told


def _changed(source: ModelSource, form: str | None, size: int | None) -> ModelSource:
    return replace(source, form=form or source.form, batch_size=size or source.batch_size)
