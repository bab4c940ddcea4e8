"""What was asked of ``inferload run``, by flags or a run file, and what that means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferload.cli.output import Reports
    from inferload.plan.model import MemberSource, ModelSource
    from inferload.plan.options import RunOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags of ``inferload run``, as they were given or left out."""

    model: str
    batch_sizes: str | None = None
    callers: int = 1
    processes: int | None = None
    calls: int | None = None
    duration: str | None = None
    precision: str | None = None
    quantile: str = "p99"
    time_limit: str | None = None
    rate: float | None = None
    arrivals: str | None = None
    warmup: str | None = None
    inputs: list[str] | None = None
    fresh_inputs: bool = False
    form: str | None = None
    mode: str | None = None
    device: str | None = None
    streams: str = "per-caller"
    completion: str = "sync"
    transfers: bool = False
    telemetry: bool = True
    executor: str = "auto"
    threads_per_call: int | None = None
    pin: str = "none"
    autocast: str | None = None
    grad: str = "inference"
    compare: bool = True
    seed: int = 0
    on_error: str = "stop"
    verify: bool = False
    timeout: str | None = None
    isolate: bool = True
    json: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    trace: Path | None = None
    quiet: bool = False
    members: tuple[MemberSource, ...] = ()
    batch_size: int | None = None

    @classmethod
    def from_words(cls, words: dict[str, Any], given: set[str]) -> Asked:
        """From flags and, where MODEL is one, a run file; ``given`` names the flags given.

        Raises:
            PlanError: naming the run file, and the line or key that is wrong.
        """
        members: tuple[MemberSource, ...] = ()
        if words["model"].endswith(".toml"):
            words, members = _with_file(words, given)
        return cls(**words, members=members)

    def options(self) -> RunOptions:
        """How to run.

        Raises:
            PlanError: naming the option that cannot be run, and its value.
        """
        from inferload import units
        from inferload.plan.loads import Lane, load_from_text
        from inferload.plan.options import RunOptions

        processes = self.processes
        several = "," in (self.device or "")  # a process each, if their number is not given
        if processes is None and self.isolate and self.executor != "processes" and not several:
            processes = 1
        lanes = [
            Lane(name=one.name, callers=one.callers, weight=one.weight)
            for one in self.members
            if one.callers is not None
        ]
        return RunOptions(
            lanes=tuple(lanes),
            load=load_from_text(self.arrivals, self.rate, self.callers, self.seed),
            calls=self.calls,
            duration_s=_seconds(self.duration),
            precision=None if self.precision is None else units.fraction(self.precision),
            quantile={"p99.9": "p999", "p99.99": "p9999"}.get(self.quantile, self.quantile),
            time_limit_s=_seconds(self.time_limit),
            **_warm_up(self.warmup),
            executor=self.executor,
            processes=processes,
            threads_per_call=self.threads_per_call,
            pin=self.pin,
            timeout_s=_seconds(self.timeout),
            devices=()
            if self.device is None
            else tuple(one.strip() for one in self.device.split(",")),
            streams=self.streams,
            completion=self.completion,
            transfers=self.transfers,
            fresh_inputs=self.fresh_inputs,
            telemetry=self.telemetry,
            seed=self.seed,
            on_error=self.on_error,
            verify=self.verify,
            trace=self.trace,
            form=self.form,
            mode=self.mode,
            compare=self.compare,
            batch_size=self.batch_size,
        ).checked()

    def sizes(self) -> list[int]:
        """The batch sizes.

        Raises:
            PlanError: they are not whole numbers, or several models would have to be stacked.
        """
        from inferload.errors import PlanError
        from inferload.plan.numbers import check_count

        if self.members:
            raise PlanError("--batch-sizes is of one model, and there are several")
        words = [word.strip() for word in (self.batch_sizes or "").split(",")]
        if not all(word.isascii() and word.isdigit() and len(word) < 9 for word in words):
            raise PlanError(
                f"batch sizes {self.batch_sizes!r} are not understood: give numbers, as 1,8,64"
            )
        sizes = [int(word) for word in words]
        for size in sizes:
            check_count("batch_size", size, at_least=1, at_most=1_000_000)
        if len(set(sizes)) < len(sizes):
            raise PlanError(f"batch sizes {self.batch_sizes!r} name one twice")
        return sizes

    def source(self) -> ModelSource:
        """What to run."""
        from inferload.plan.model import ModelSource

        return ModelSource(
            spec=self.model,
            members=self.members,
            input_texts=tuple(self.inputs or ()),
            form=self.form,
            mode=self.mode,
            batch_size=self.batch_size,
            autocast=self.autocast,
            grad=self.grad,
            compare=self.compare,
            seed=self.seed,
        )

    def check_outputs(self) -> None:
        """Refuse files that could not be written in the end.

        Raises:
            PlanError: naming the file.
        """
        from inferload.files import beside, check_apart, check_writable

        for path in (self.json, self.trace):
            if path is not None:
                check_writable(path)
        self.reports.check()
        outputs = {"--json": self.json, "--trace": self.trace, **self.reports.paths}
        if self.json is not None:
            log = beside(self.json, ".calls")
            check_writable(log)
            outputs["the log of --json"] = log
        check_apart(outputs, self.files())

    @property
    def reports(self) -> Reports:
        """Where reports go beside the terminal."""
        from inferload.cli.output import Reports

        return Reports(html=self.html, markdown=self.markdown)

    def files(self) -> list[Path]:
        """The files that are read: models, inputs, a run file."""
        from inferload.plan.model import spec_parts

        specs = [self.model, *(one.spec for one in self.members)]
        texts = [*(self.inputs or ()), *(text for one in self.members for text in one.input_texts)]
        named = [spec_parts(spec)[0] for spec in specs]
        return [path for path in map(Path, [*named, *texts]) if path.is_file()]

    def check_reports(self) -> None:
        """Refuse reports that could not be written in the end, or over something else.

        Raises:
            PlanError: naming the file, or what is not installed.
        """
        from inferload.files import check_apart

        self.reports.check()
        check_apart({"--json": self.json, **self.reports.paths}, self.files())


def _seconds(text: str | None) -> float | None:
    from inferload.units import duration_s

    return None if text is None else duration_s(text)


def _with_file(
    asked: dict[str, Any], given: set[str]
) -> tuple[dict[str, Any], tuple[MemberSource, ...]]:
    """The flags with what a run file sets, unless the command line does, and its models."""
    from inferload.cli.request.run_file import read_run_file
    from inferload.errors import PlanError
    from inferload.plan.model import MemberSource

    path = Path(asked["model"])
    file = read_run_file(path)
    for name in {"form", "inputs", "mode"} & given if file.models else ():
        raise PlanError(f"--{name} is of one model, and {path} has several: write it there")
    # one end of a run on the command line takes the place of another one in the file
    ends = {"calls", "duration", "precision"}
    left_out = given | (ends if ends & given else set())
    options = {name: value for name, value in file.options().items() if name not in left_out}
    members = tuple(
        MemberSource(
            name=name,
            spec=entry.model,
            weight=entry.weight,
            form=entry.form,
            mode=entry.mode,
            input_texts=tuple(entry.inputs),
            callers=entry.callers,
        )
        for name, entry in file.models.items()
    )
    return asked | options | ({"model": file.model} if file.model else {}), members


def _warm_up(text: str | None) -> dict[str, Any]:
    """Read ``--warmup``: a number of calls, or auto."""
    from inferload.errors import PlanError

    if text is None or text == "auto":
        return {"warmup": text}
    if not text.isascii() or not text.isdigit():
        raise PlanError(f"warmup {text!r} is not understood: give a number of calls, or auto")
    return {"warmup": "fixed", "warmup_calls": int(text)}
