"""What was asked of ``inferload run``, by flags or a run file, and what that means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.files import is_file
from inferload.plan import option_table as table
from inferload.plan.server import (
    OF_MODELS_HERE,
    OF_SERVERS,
    check_words_of_server,
    is_url,
    server_from_words,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import typer

    from inferload.cli.output import Reports
    from inferload.plan.batching import Batching
    from inferload.plan.model import MemberSource, ModelSource
    from inferload.plan.options import RunOptions
    from inferload.plan.server import Server


# What each model of several has of its own, in their run file.
_OF_ONE_MODEL = {"form", "inputs", "mode"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for: ``words`` are the flags by their keys, as they stand there.

    A flag that was left out has its default: ``asked["callers"]`` is always there.
    """

    model: str
    words: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[MemberSource, ...] = ()
    batch_size: int | None = None
    #: The models that it is compared with.
    beside: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.words[key] if key in self.words else table.DEFAULTS[key]

    @classmethod
    def from_context(
        cls,
        context: typer.Context,
        *,
        own: Collection[str] = (),
        model: str | None = None,
        **more: Any,
    ) -> Asked:
        """From the flags of a command and, where MODEL is one, a run file.

        ``own`` are the flags that say something else for this command.

        Raises:
            PlanError: naming the run file, and the line or key that is wrong.
        """  # fmt: skip
        words = {
            row.key: context.params[row.key]
            for row in table.FLAGS
            if row.key in context.params and row.key not in own
        }
        for row in table.FLAGS:
            if row.kind is Path and words.get(row.key) is not None:
                words[row.key] = Path(words[row.key])  # some versions of typer keep a text there
        sources = {key: context.get_parameter_source(key) for key in words}
        given = {
            key for key, one in sources.items() if one is not None and one.name == "COMMANDLINE"
        }
        spec = context.params["model"] if model is None else model
        if spec.endswith(".toml"):
            return _with_file(spec, words | more, given)
        return cls(model=spec, words=words | more)

    @classmethod
    def again(cls, model: str, words: Mapping[str, Any]) -> Asked:
        """From words that were asked for before; a run file of several models has theirs.

        Raises:
            PlanError: as ``from_context``.
        """
        if not model.endswith(".toml"):
            return cls(model=model, words=words)
        from inferload.cli.request.run_file import read_run_file

        theirs = _OF_ONE_MODEL if read_run_file(Path(model)).models else set()
        own = {key: value for key, value in words.items() if key not in theirs}
        return _with_file(model, own, set(own))

    def but(self, **words: Any) -> Asked:
        """The same with other words."""
        return replace(self, words={**self.words, **words})

    @property
    def json(self) -> Path | None:
        """Where the result is saved."""
        path: Path | None = self["json"]
        return path

    @property
    def quiet(self) -> bool:
        """Whether no progress is shown."""
        return bool(self["quiet"])

    @property
    def isolate(self) -> bool:
        """Whether the model has a process of its own."""
        return bool(self["isolate"])

    def options(self) -> RunOptions:
        """How to run.

        Raises:
            PlanError: naming the option that cannot be run, and its value.
        """
        from inferload.plan.arrivals.load_words import load_from_text
        from inferload.plan.arrivals.loads import Lane
        from inferload.plan.options import RunOptions

        for row in table.WORDS:
            row.checked(self[row.key])
        if is_url(self.model):
            check_words_of_server(self.words, table.DEFAULTS)
        read = {row.name: row.read(self[row.key]) for row in table.OPTIONS if row.flag is not None}
        device, isolated = self["device"], self.isolate and self["executor"] != "processes"
        several = "," in (device or "")  # a process each, if their number is not given
        if read["processes"] is None and isolated and not several:
            read["processes"] = 1
        lanes = [
            Lane(name=one.name, callers=one.callers, weight=one.weight)
            for one in self.members
            if one.callers is not None
        ]
        return RunOptions(
            **read | _warm_up(self["warmup"]),
            lanes=tuple(lanes),
            load=load_from_text(
                self["arrivals"],
                self["rate"],
                self["callers"],
                self["seed"],
                self["clients"],
                self["think"],
            ),
            batching=self._batching(),
            devices=() if device is None else tuple(one.strip() for one in device.split(",")),
            batch_size=self.batch_size,
            of_server=self._of_server,
        ).checked()

    @property
    def _of_server(self) -> bool:
        """Whether a model is named by a URL."""
        return any(map(is_url, [self.model, *(one.spec for one in self.members)]))

    def side(self, model: str, beside: str) -> Asked:
        """The same of one of two models that are compared.

        What is asked of a model here is not asked of one behind a server; where no inputs are
        given, that one takes those that the other one's file defines.
        """
        own = replace(self, model=model, beside=(beside,))
        if not is_url(model) or is_url(beside):
            return own
        return own.but(**{key: table.DEFAULTS[key] for key in OF_MODELS_HERE})

    def _server(self) -> Server | None:
        """How servers are asked.

        Raises:
            PlanError: a flag of servers was given, and no model is behind one.
        """
        asks = self._of_server or any(map(is_url, self.beside))
        return server_from_words({key: self[key] for key in OF_SERVERS}, of_server=asks)

    def _batching(self) -> Batching | None:
        from inferload.plan.batching import batching_from_text

        keys = ("max_batch", "max_delay", "batch_pad", "batch_sizes_allowed")
        return batching_from_text(*(self[key] for key in keys))

    def sizes(self) -> list[int]:
        """The batch sizes.

        Raises:
            PlanError: they are not whole numbers, or several models would have to be stacked.
        """
        from inferload.errors import PlanError
        from inferload.plan.numbers import check_count

        if self.members:
            raise PlanError("--batch-sizes is of one model, and there are several")
        text = self["batch_sizes"] or ""
        words = [word.strip() for word in text.split(",")]
        if not all(word.isascii() and word.isdigit() and len(word) < 99 for word in words):
            raise PlanError(f"batch sizes {text!r} are not understood: give numbers, as 1,8,64")
        sizes = [int(word) for word in words]
        for size in sizes:
            check_count("batch_size", size, at_least=1, at_most=1_000_000)
        if len(set(sizes)) < len(sizes):
            raise PlanError(f"batch sizes {text!r} name one twice")
        return sizes

    def source(self) -> ModelSource:
        """What to run."""
        from inferload.plan.arrivals.load_words import captured_in
        from inferload.plan.model import ModelSource

        batching, captured = self._batching(), captured_in(self["arrivals"])
        inputs = tuple(self["inputs"] or ())
        if captured is not None and not self.members:
            inputs = inputs or (str(captured),)  # each call takes that of its time
        return ModelSource(
            spec=self.model,
            members=self.members,
            input_texts=inputs,
            form=self["form"],
            mode=self["mode"],
            batch_size=self.batch_size,
            autocast=self["autocast"],
            grad=self["grad"],
            compare=self["compare"],
            seed=self["seed"],
            batching=None if batching is None else batching.told,
            server=self._server(),
            inputs_of=self.beside[0] if is_url(self.model) and self.beside else None,
        )

    def check_outputs(self) -> None:
        """Refuse files that could not be written in the end.

        Raises:
            PlanError: naming the file.
        """
        from inferload.files import beside, check_apart, check_writable

        for path in (self.json, self["trace"]):
            if path is not None:
                check_writable(path)
        self.reports.check()
        outputs = {"--json": self.json, "--trace": self["trace"], **self.reports.paths}
        if self.json is not None:
            log = beside(self.json, ".calls")
            check_writable(log)
            outputs["the log of --json"] = log
        check_apart(outputs, self.files())

    @property
    def reports(self) -> Reports:
        """Where reports go beside the terminal."""
        from inferload.cli.output import Reports

        return Reports(html=self["html"], markdown=self["markdown"])

    def files(self) -> list[Path]:
        """The files that are read: models, inputs, a run file."""
        from inferload.plan.model import spec_parts

        specs = [self.model, *(one.spec for one in self.members)]
        texts = [
            *(self["inputs"] or ()),
            *(text for one in self.members for text in one.input_texts),
        ]
        named = [spec_parts(spec)[0] for spec in specs if not is_url(spec)]
        return [path for path in map(Path, [*named, *texts]) if is_file(path)]

    def check_reports(self) -> None:
        """Refuse reports that could not be written in the end, or over something else.

        Raises:
            PlanError: naming the file, or what is not installed.
        """
        from inferload.files import check_apart

        self.reports.check()
        check_apart({"--json": self.json, **self.reports.paths}, self.files())


def _with_file(model: str, words: dict[str, Any], given: set[str]) -> Asked:
    """The flags with what a run file sets, unless the command line does, and its models."""
    from inferload.cli.request.run_file import read_run_file
    from inferload.errors import PlanError
    from inferload.plan.model import MemberSource

    path = Path(model)
    file = read_run_file(path)
    for name in _OF_ONE_MODEL & given if file.models else ():
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
    return Asked(model=file.model or model, words=words | options, members=members)


def _warm_up(text: str | None) -> dict[str, Any]:
    """Read ``--warmup``: a number of calls, or auto."""
    from inferload.errors import PlanError

    if text is None or text == "auto":
        return {"warmup": text}
    if not text.isascii() or not text.isdigit():
        raise PlanError(f"warmup {text!r} is not understood: give a number of calls, or auto")
    return {"warmup": "fixed", "warmup_calls": int(text)}
