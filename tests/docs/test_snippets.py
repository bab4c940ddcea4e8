"""Every command and every snippet of README and docs runs, in a folder like a user's.

Commands run as they are written, but for how long: durations are cut short, so that what is checked
is that they work and say what they should, not what they measure. Those that want a GPU are refused
in a sentence where there is none. A Python block or a run file that begins with a comment of its
file's name is written there; other Python blocks of a page run one after the other as one script.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import metadata
from pathlib import Path

import pytest
import torch

import inferload as il

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if "_build" not in path.parts
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REPORT = re.compile(r"<!-- report: (.*?) -->")
# What the README's Python takes for granted.
_GIVEN = {
    "README.md": """
        import torch
        import inferload as il
        torch.manual_seed(0)
        model = module = torch.nn.Linear(64, 8).eval()
        inputs = [torch.randn(1, 64)]
        class Masked(torch.nn.Module):
            def forward(self, x, mask):
                return x * mask
    """,
}
# Pages whose MiniLM is the real one; in others the small classifier stands for it.
_WITH_MINILM = {"README.md", "docs/tutorial.md"}


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
    lasts = {"sweep": "0.1s", "tune": "0.6s", "compare": "0.05s"}
    command = next((one for one in found if one in {*lasts, "search", "run"}), "")
    more = {"sweep": ["--blocks", "1"], "search": ["--time-limit", "4s"]}.get(command, [])
    pattern = re.compile(r"\d+(\.\d+)?s")
    for place, word in enumerate(found):
        if word.startswith("--duration="):
            found[place] = "--duration=0.3s"
        elif place and found[place - 1] == "--duration" and pattern.fullmatch(word):
            found[place] = lasts.get(command, "0.3s")
        elif place and found[place - 1] == "--processes" and int(word) > 2:
            found[place] = "2"
        elif word.startswith("--json=/"):
            found[place] = "--json=run.json"
    if command in lasts and "--duration" not in found and ".json" not in found[2]:
        more += ["--duration", lasts[command]]
    if "--precision" in found:
        more += ["--time-limit", "1s"]
    return [*found, *more]


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
            (folder / name[1]).write_text(content)


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
        if not run:
            continue
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
            "OMP_NUM_THREADS": "1",
        }
        began = time.perf_counter()
        done = subprocess.run(
            run, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        took_s = time.perf_counter() - began
        ran.append(Ran(written, run, done.returncode, done.stdout + done.stderr, took_s))
    return ran


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory):
    """All pages, two at a time: what takes long is starting, and there is nothing to measure."""
    pool = ThreadPoolExecutor(2)
    folders = {page: tmp_path_factory.mktemp("page") / "work" for page in PAGES if commands(page)}
    for page, folder in folders.items():
        workspace(folder, page)
    # the longest first
    longest = sorted(folders, key=lambda page: str(page) not in _WITH_MINILM)
    yield {page: pool.submit(transcript, page, folders[page]) for page in longest}
    pool.shutdown(cancel_futures=True)


@cache
def wants_gpu(command: str) -> bool:
    return "--device cuda" in command and not torch.cuda.is_available()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=str)
def test_every_command_of_a_page_does_what_it_should(
    page: Path, transcripts: dict[Path, Future[list[Ran]]]
):
    for one in transcripts[page].result():
        print(f"{one.took_s:6.1f} s  {one.written}")
        told = f"{one.written}\nrun as: {shlex.join(one.run)}\nexit {one.code}\n{one.output}"
        assert "Traceback" not in one.output, told
        if wants_gpu(one.written):
            assert one.code == 2, told
            assert "cuda" in one.output, told
            continue
        # too short a time may find no rate, or cross a gate by chance
        unsure = any(word in one.written for word in ("search", "compare", "tune", "pytest"))
        assert one.code in ({0, 1} if unsure else {0}), told
        assert not re.search(r"^(error|Usage):", one.output, re.MULTILINE), told


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "python" in dict(blocks(page))], ids=str
)
def test_every_python_snippet_of_a_page_runs(page: Path, tmp_path: Path):
    folder = tmp_path / "work"
    workspace(folder, page)
    own = [
        content
        for language, content in blocks(page)
        if language == "python" and not re.match(r"# \w+\.py", content)
    ]
    if not own:
        pytest.skip("its Python is a test file, which the commands of the page run")
    given = textwrap.dedent(_GIVEN.get(str(page), ""))
    for number, content in enumerate(own):
        script = folder / f"snippet_{number}.py"
        body = content
        if "mask=mask" in content:
            body = "module, x, mask = Masked().eval(), torch.ones(1, 8), torch.ones(1, 8)\n" + body
        # the second block of a page may use what the first one made
        earlier = "" if "__main__" in body or given else "\n".join(own[:number])
        script.write_text(f"{given}\n{earlier}\n{body}")
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"


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
    named = re.findall(r"auto(?:class|function):: inferload\.(\w+)", text)
    assert sorted(named) == sorted(il.__all__)


def test_links_of_pages_lead_somewhere():
    for page in PAGES:
        text = (ROOT / page).read_text()
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if not target.startswith(("http", "mailto:")):
                assert (ROOT / page).parent.joinpath(target).exists(), (page, target)
