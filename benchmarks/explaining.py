"""Whether `explain` names what is known: constructed bottlenecks, and changes of no effect.

``cases`` and ``device`` explain each of them, ``again`` judges explanations that were kept by
today's rules, and ``nothing`` tries an environment variable that nobody reads::

    python benchmarks/explaining.py cases [--seeds 5] [--first 0] [--only gil] [--keep FOLDER]
    python benchmarks/explaining.py device [--only device-item] [--time-limit 60]
    python benchmarks/explaining.py again --keep FOLDER
    python benchmarks/explaining.py nothing [--times 100]
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import bottlenecks
import inferload as il
from inferload.cli.silent import Silent
from inferload.report.text.devices import diagnosis
from inferload.studies.child.fresh import in_fresh_processes
from inferload.studies.explain.arms import BASE, environment_arm
from inferload.studies.explain.bounds import bound_of
from inferload.studies.explain.explainer import run_explain
from inferload.studies.explain.facts import effects_of, facts_of
from inferload.studies.explain.plan import ExplainPlan
from inferload.studies.explain.rounds import Rounds
from inferload.studies.local.options import options_of
from inferload.studies.records.files import save_study
from inferload.targets.loading import target_and_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferload.studies.child.bench import ChildBench
    from inferload.studies.explain.arms import Arm


_KNOWN = bottlenecks.CASES | bottlenecks.ON_DEVICES
NOTHING = {"NOBODY_READS_THIS": "1"}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["cases", "device", "again", "nothing"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only")
    parser.add_argument("--time-limit", type=float, default=80.0)
    parser.add_argument("--keep", type=Path, help="a folder for what was found")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    names = None if given.only is None else given.only.split(",")
    if given.what == "cases":
        own = names or [*bottlenecks.CASES]
        _cases(own, given.first, given.seeds, given.time_limit, given.keep)
    elif given.what == "device":
        own = names or [*bottlenecks.ON_DEVICES]
        for name in own:
            print(json.dumps({"case": name, "run says": _said_of_run(name)}), flush=True)
        _cases(own, 0, 1, given.time_limit, given.keep, device="cuda")
    elif given.what == "again":
        _again(given.keep)
    else:
        _nothing(given.first, given.times)


def _said_of_run(name: str) -> str | None:
    """The sentence of one run on a device."""
    _, _, callers, _, _ = bottlenecks.ON_DEVICES[name]
    model, inputs = bottlenecks.model(name)
    result = il.run(
        model, inputs, load=il.ClosedLoop(callers=callers), duration_s=4.0, **_on_device(name)
    )
    return diagnosis(result)


def _on_device(name: str) -> dict[str, Any]:
    return {"device": "cuda", "transfers": name == "device-transfers"}


def _cases(
    names: list[str],
    first: int,
    seeds: int,
    time_limit_s: float,
    keep: Path | None,
    device: str | None = None,
) -> None:
    """A line for each: what was said, and whether it is right; beside a change of no effect."""
    right = made = named = 0
    for seed in range(first, first + seeds):
        for name in names:
            _, _, callers, threads, bound = _KNOWN[name]
            more = {} if device is None else _on_device(name)
            found = _explained(name, callers, threads, time_limit_s, seed, **more)
            right += found.bound == bound
            made += 1
            nothing = found.effect("nothing")
            named += nothing is not None and nothing.claimed
            effects = {one.name: round(one.ratio or 0.0, 3) for one in found.tried if one.claimed}
            line = {
                "case": name, "seed": seed, "bound": found.bound, "right": found.bound == bound,
                "says": found.says, "effects": effects,
                "nothing": None if nothing is None else nothing.ratio,
                "took_s": round(found.took_s),
            }  # fmt: skip
            print(json.dumps(line), flush=True)
            if keep is not None:
                save_study(found, keep / f"{name}-{seed}.json")
    print(f"{right} of {made} right; a change of no effect called one {named} times")


def _again(folder: Path) -> None:
    """What today's rules say of explanations that were kept."""
    right = made = named = tried = 0
    for path in sorted(folder.glob("*.json")):
        found = il.load_study(path)
        if not isinstance(found, il.Explanation):
            continue
        bound = bound_of(facts_of(found))
        wanted = _KNOWN[path.stem.rpartition("-")[0]][-1]
        right, made = right + (bound.word == wanted), made + 1
        nothing = found.effect("nothing")
        tried += nothing is not None
        named += nothing is not None and nothing.claimed
        if bound.word != wanted:
            print(f"{path.stem}: {bound.word}, and not {wanted}: {bound.says}")
    print(f"{right} of {made} right; of {tried} changes of no effect {named} called one")


def _explained(
    name: str, callers: int, threads: int, time_limit_s: float, seed: int, **more: Any
) -> il.Explanation:
    model, inputs = bottlenecks.model(name)
    target, given = target_and_inputs(model, inputs)
    options = options_of(
        {"duration_s": 2.0, "threads_per_call": threads, "seed": seed, **more},
        il.ClosedLoop(callers=callers),
        model,
    ).checked()
    plan = ExplainPlan(
        target=name, asked={}, options=options, time_limit_s=time_limit_s, command=lambda *_: ""
    )
    with ExitStack() as stack:
        packages = Path(stack.enter_context(TemporaryDirectory()))

        def host(environment: Mapping[str, str], number: int) -> ChildBench:
            return stack.enter_context(
                _host(model, inputs, target, given, packages, environment, number)
            )

        return run_explain(
            plan, host({}, 0), host, Silent(),
            choose=_chosen,
        )  # fmt: skip


def _nothing(first: int, times: int) -> None:
    """An environment variable that nobody reads, again and again: how often it is an effect."""
    model, inputs = bottlenecks.model("multiplies")
    target, given = target_and_inputs(model, inputs)
    options = options_of(
        {"duration_s": 1.0, "threads_per_call": 1}, il.ClosedLoop(callers=2), model
    ).checked()
    named = 0
    for seed in range(first, first + times):
        hosts = partial(_host, model, inputs, target, given, None)
        base = environment_arm(BASE, "as asked", options, {})
        arms = (base, environment_arm("nothing", "a name", options, NOTHING))
        rounds = Rounds(hosts, Silent(), seed)
        made = [rounds.round(arms, number) for number in range(6)]
        (effect,) = effects_of(arms, (), rounds.refused, made)
        named += effect.claimed
        print(
            json.dumps({"seed": seed, "ratio": effect.ratio, "claimed": effect.claimed}), flush=True
        )
    print(f"{named} of {times} called an effect")


def _chosen(arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    """Without what takes longest, and with what does nothing."""
    left = [one for one in arms if one.name not in {"form-aoti", "jemalloc"}]
    own = arms[0].turn.options
    return (*left, environment_arm("nothing", "a name", own, NOTHING, settles=True))


def _host(
    model: object,
    inputs: object,
    target: Any,
    given: Any,
    packages: Path | None,
    environment: Mapping[str, str],
    number: int,
) -> ChildBench:
    del number
    return in_fresh_processes(
        model,
        inputs,
        target,
        given,
        fresh=False,
        environment=environment,
        packages=packages,
    )


if __name__ == "__main__":
    main()
