"""What the pages name is there: files, commands of `scfs` with their options, and targets of the Makefile."""

import re
from pathlib import Path

import pytest
import typer
from repository import ROOT

from scfs.cli import app

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = {"docker/scfs.sif"}
FOLDERS = "benchmarks|config|docker|docs|envs|examples|results|scfs|tests|tools|workflow"
COMMANDS = typer.main.get_command(app).commands


def code(page: Path) -> list[str]:
    """Blocks and spans of code, line by line; continued lines are one."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines] + [re.sub(r"\s+", " ", span) for span in spans]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    wrong = []
    for line in code(page):
        for path in re.findall(rf"(?<![\w/.~-])(?:{FOLDERS})/[\w./-]*\w", line):
            made = path in MADE or path.startswith(("results/runs", "results/studies"))
            if not made and "<" not in line and not (ROOT / path).exists():
                wrong.append(path)
        for name, rest in re.findall(r"(?:^|\s)scfs (?:--params \S+ )?([a-z][a-z-]*)((?: [^;|)]+)?)", line):
            command = COMMANDS.get(name)
            if name == "data" and command is not None:
                command = command.commands.get(rest.split()[0]) if rest.split() else command
            if command is None:
                wrong.append(f"scfs {name}")
                continue
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            named = set(re.findall(r"(?<= )--[a-z-]+", rest))
            wrong += [f"scfs {name} {option}" for option in sorted(named - known)]
        for target in re.findall(r"(?:^|&& )make (?:[A-Z_]+=\S+ )*([a-z][a-z-]*)", line):
            if not re.search(rf"^{target}:", makefile, re.MULTILINE):
                wrong.append(f"make {target}")
    assert not wrong
