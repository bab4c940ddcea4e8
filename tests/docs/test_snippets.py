"""Every command and every snippet of README and docs runs, in a folder like a user's.

Commands run as they are written, but for how long: durations are cut short, so that what is checked
is that they work and say what they should, not what they measure. What makes twenty runs or more
is interrupted in its second run, as a user might, and says so. Those that want a GPU are refused
in a sentence where there is none. A Python block or a run file that begins with a comment of its
file's name is written there; other Python blocks of a page run one after the other as one script.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import inferload as il
from support.forks import OF_MINILM, Forked
from support.program import inferload_here, working_in
from support.served_models import served

if TYPE_CHECKING:
    from support.forks import Forks

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if "_build" not in path.parts
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REPORT = re.compile(r"<!-- report: (.*?) -->")
# Comparisons, tunings and explanations are interrupted when they have begun this.
SECOND_RUN = re.compile(r"\b(?:run|round) 2 of ")
PATIENCE_S = 300
# What the Python of these pages takes for granted.
_GIVEN = dict.fromkeys(
    ("README.md", "docs/running.md"),
    """
        import torch
        import inferload as il
        torch.manual_seed(0)
        model = module = torch.nn.Linear(64, 8).eval()
        inputs = [torch.randn(1, 64)]
        class Masked(torch.nn.Module):
            def forward(self, x, mask):
                return x * mask
    """,
)
# Pages whose MiniLM is the real one; in others the small classifier stands for it.
_WITH_MINILM = {"docs/tutorial.md"}


@dataclass
class Ran:
    """A command, how it was run, and what came of it."""

    written: str
    run: list[str]
    code: int
    output: str
    took_s: float


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and content."""
    return _BLOCK.findall((ROOT / page).read_text())


def commands(page: Path) -> list[str]:
    """The commands of a page in its order, each once."""
    text = (ROOT / page).read_text()
    found = [command.strip() for command in _REPORT.findall(text)]
    for language, content in blocks(page):
        if language == "console":
            joined = content.replace("\\\n", " ")
            found += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
        elif language == "bash":
            found += re.findall(r"-m (inferload run .*)", content.replace("\\\n", " "))
        elif language == "yaml":
            words = re.search(r"command: \[(.*?)\]", content, re.DOTALL)[1]
            listed = [one.strip() for one in words.split(",")]
            found.append(" ".join(listed[listed.index("inferload") :]))
    return list(dict.fromkeys(re.sub(r"\s+#.*", "", one) for one in found))


def shortened(words: list[str]) -> list[str]:
    """A command with its durations cut short, and without what one machine has not."""
    found = list(words)
    if found[0] == "torchrun":
        found[found.index("--nnodes") + 1] = "1"
        found[found.index("--rdzv-endpoint") + 1] = "localhost:0"
        found = [sys.executable, "-m", "torch.distributed.run", *found[1:]]
    lasts = {"sweep": "0.1s", "tune": "0.6s", "compare": "0.05s", "explain": "0.3s"}
    command = next((one for one in found if one in {*lasts, "search", "run"}), "")
    more = {"sweep": ["--blocks", "1"], "search": ["--time-limit", "2s"]}.get(command, [])
    pattern = re.compile(r"\d+(\.\d+)?s")
    for place, word in enumerate(found):
        if word.startswith("--duration="):
            found[place] = "--duration=0.3s"
        elif place and found[place - 1] == "--duration" and pattern.fullmatch(word):
            found[place] = lasts.get(command, "0.3s")
        elif place and found[place - 1] == "--rate":
            found[place] = re.sub(r"/\d+s", "/0.2s", word)
        elif place and found[place - 1] == "--processes" and int(word) > 2:
            found[place] = "2"
        elif word.startswith("--json=/"):
            found[place] = "--json=run.json"
    if command in lasts and "--duration" not in found and ".json" not in found[2]:
        more += ["--duration", lasts[command]]
    if "--precision" in found:
        more += ["--time-limit", "1s"]
    return [*found, *more]


def shortened_content(content: str) -> str:
    """A script or run file with its durations cut short."""
    return re.sub(r"(duration_s=|duration = \")\d+(\.\d+)?", r"\g<1>0.3", content)


def is_long(words: list[str]) -> bool:
    """Whether a command makes twenty runs or more, each in a process of its own."""
    return words[:2] in (["inferload", "tune"], ["inferload", "explain"]) or (
        words[:2] == ["inferload", "compare"] and not words[2].endswith(".json")
    )


def workspace(folder: Path, page: Path) -> None:
    """A user's folder: models, inputs, results, a repository with two revisions."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    small = (ROOT / "examples" / "mlp.py").read_text()
    if str(page) not in _WITH_MINILM:
        (folder / "examples" / "minilm.py").write_text(small)
    for name in ("model.py", "ranker.py"):
        (folder / name).write_text(small)
    namespace: dict[str, object] = {}
    exec(small.replace("from __future__ import annotations", ""), namespace)  # noqa: S102 - ours
    model, inputs = namespace["model"](), namespace["inputs"]()
    torch.export.save(torch.export.export(model, (inputs[0],)), folder / "model.pt2")
    with torch.no_grad():
        embedder = torch.jit.trace(torch.nn.Embedding(4, 8), torch.zeros(1, 128, dtype=torch.int64))
        embedder.save(folder / "embedder.pt")
        for name in ("before", "after", "run"):
            il.run(model, inputs, calls=500).save(folder / f"{name}.json")
        with il.capture(model, folder / "inputs.safetensors"):
            for one in inputs:
                model(one)
    (folder / "times.txt").write_text("".join(f"{0.005 * n}\n" for n in range(60)))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (
        [*git, "init", "-q", "-b", "main"],
        [*git, "add", "model.py"],
        [*git, "commit", "-qm", "one"],
        [*git, "checkout", "-qb", "change"],
        [*git, "commit", "-qm", "two", "--allow-empty"],
    ):
        subprocess.run(words, cwd=folder, check=True)
    for language, content in blocks(page):
        name = re.match(r"# (\w+\.(?:py|toml))", content)
        if language in {"python", "toml"} and name:
            (folder / name[1]).write_text(shortened_content(content))


def transcript(page: Path, folder: Path) -> list[Ran]:
    """Every command of a page, run in its order."""
    ran = []
    for written in commands(page):
        words = shlex.split(written)
        if words[0] == "make":
            run = ["make", "-n", "-C", str(ROOT), words[1]]
        elif words[:2] == ["pip", "install"]:
            run = []
        else:
            run = shortened(words)
            if "--check-duration" in run:
                run[run.index("--check-duration") + 1] = "3s"
        if not run:
            continue
        with served(run) as own:
            ran.append(ran_in(folder, written, own))
    return ran


def ran_in(folder: Path, written: str, run: list[str]) -> Ran:
    """A command that was run in a folder, with this environment's tools."""
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    began = time.perf_counter()
    if run[:2] == ["inferload", "--show-completion"]:
        # a shell is known by what has started the program
        run = ["bash", "-c", f"{shlex.join(run)}; exit $?"]
    if run[0] == "inferload" and not is_long(run):
        done = inferload_here(*run[1:], cwd=folder, **own)
        output = done.stderr + done.stdout
        return Ran(written, run, done.returncode, output, time.perf_counter() - began)
    log = folder / "output.txt"
    with log.open("w") as file:
        modules = {one: [sys.executable, "-m", one] for one in ("inferload", "pytest")}
        own_words = [*modules.get(run[0], run[:1]), *run[1:]]
        # torchrun is started, not forked as in other tests
        start = subprocess.Popen if "torch.distributed.run" in run else Forked
        process = start(
            own_words, cwd=folder, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    while is_long(run) and process.poll() is None:
        if SECOND_RUN.search(log.read_text()):
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.05)
    code = process.wait(PATIENCE_S)
    return Ran(written, run, code, log.read_text(), time.perf_counter() - began)


def scripts(page: Path) -> list[str]:
    """The Python blocks of a page as scripts; a later one may use what an earlier one made."""
    own = [
        content
        for language, content in blocks(page)
        if language == "python" and not re.match(r"# \w+\.py", content)
    ]
    given = textwrap.dedent(_GIVEN.get(str(page), ""))
    found = []
    for number, content in enumerate(own):
        earlier = "" if given else "\n".join(own[:number])
        masked = "module, x, mask = Masked().eval(), torch.ones(1, 8), torch.ones(1, 8)\n"
        body = masked + content if "mask=mask" in content else content
        found.append(f"{given}\n{earlier}\n{body}")
    return found


def snippets(page: Path, folder: Path, forks: Forks) -> list[Ran]:
    """Every Python block of a page, run in its order."""
    ran = []
    for number, text in enumerate(scripts(page)):
        script = folder / f"snippet_{number}.py"
        with (
            served([shortened_content(text)]) as (own,),
            tempfile.TemporaryFile() as output,
            working_in(folder),
        ):
            script.write_text(own)
            began = time.perf_counter()
            code = forks.script(script, output)
            took_s = time.perf_counter() - began
            output.seek(0)
            ran.append(Ran(text, [str(script)], code, output.read().decode(), took_s))
    return ran


@pytest.fixture
def folder(page: Path, tmp_path: Path, forks: Forks) -> Path:
    """A folder like that of the user of a page."""
    found = tmp_path / "work"
    workspace(found, page)
    if str(page) in _WITH_MINILM:
        forks.import_before(*OF_MINILM)
    return found


def wants_gpu(command: str) -> bool:
    """Whether a command wants more GPUs than there are."""
    named = re.findall(r"cuda(?::(\d+))?", command)
    return bool(named) and max(int(one or 0) for one in named) >= torch.cuda.device_count()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=str)
def test_every_command_of_a_page_does_what_it_should(page: Path, folder: Path):
    for one in transcript(page, folder):
        print(f"{one.took_s:6.1f} s  {one.written}")
        told = f"{one.written}\nrun as: {shlex.join(one.run)}\nexit {one.code}\n{one.output}"
        assert "Traceback" not in one.output, told
        if wants_gpu(one.written):
            assert one.code == 2, told
            assert "cuda" in one.output, told
            continue
        # too short a time may find no rate, break a limit by chance, or leave it untold
        verbs = ("search", "compare", "tune", "explain", "forecast")
        unsure = any(word in one.written for word in verbs)
        if one.written.startswith("pytest"):
            unsure = "is worse than its baseline" in one.output
        allowed = {0, 1, 4} if unsure else {0}
        assert one.code in (allowed | {130} if is_long(one.run) else allowed), told
        if one.code == 130:
            assert "interrupted after" in one.output, told
            continue
        assert not re.search(r"^(error|Usage):", one.output, re.MULTILINE), told


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if scripts(page)], ids=str)
def test_every_python_snippet_of_a_page_runs(page: Path, folder: Path, forks: Forks):
    for one in snippets(page, folder, forks):
        assert one.code == 0, f"{one.written}\n{one.output}"


def test_extras_that_pages_name_are_there():
    known = set(metadata("inferload").get_all("Provides-Extra"))
    for page in PAGES:
        for extras in re.findall(
            r"pip install '(?:\.|inferload)\[([\w,]+)\]'", (ROOT / page).read_text()
        ):
            assert set(extras.split(",")) <= known, (page, extras)


def test_shell_scripts_of_pages_are_shell():
    for page in PAGES:
        for language, content in blocks(page):
            if language == "bash":
                subprocess.run(["bash", "-n"], input=content, text=True, check=True)


def test_no_block_goes_without_a_test():
    tested = {"console", "python", "toml", "yaml", "bash", "text"}
    for page in PAGES:
        assert {language for language, _ in blocks(page)} <= tested, page


def test_every_public_name_is_in_the_reference():
    text = (ROOT / "docs" / "reference" / "api.md").read_text()
    named = re.findall(r"auto(?:class|function):: inferload\.(\w+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(il.__all__)


def test_links_of_pages_lead_somewhere():
    for page in PAGES:
        text = (ROOT / page).read_text()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if not target.startswith(("http", "mailto:")):
                assert (ROOT / page).parent.joinpath(target).exists(), (page, target)
