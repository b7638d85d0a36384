"""docs/upgrades.md names every private part of another package that we use, and no other; each with a test."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT

PAGE = (ROOT / "docs/upgrades.md").read_text()
DOCUMENTED = {"_asdict", "_fields", "_replace", "_exit"}
"""Public, whatever they look like: https://docs.python.org/3/library/collections.html#collections.namedtuple, and os.html."""
OVERRIDDEN = {
    "_apply_exif_orientation",
    "_on_queue_feeder_error",
    "_submit_command",
    "_prepare_dag",
    "_build_dag",
    "_workflow",
    "_IOFile",
}
"""Names that the search below does not see, or takes for our own: methods of ours in classes of theirs, tests, rules."""


def sources() -> Iterator[ast.Module]:
    for folder in ("scfs", "benchmarks", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            yield ast.parse(path.read_text(encoding="utf-8"))


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def own_names() -> set[str]:
    """What we define or assign ourselves, anywhere."""
    found: set[str] = set()
    for node in (node for tree in sources() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def used_names() -> set[str]:
    """Private attributes, and private modules and names that are imported."""
    found: set[str] = set()
    for node in (node for tree in sources() for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] != "scfs":
            found.update(node.module.split("."), (alias.name for alias in node.names))
        elif isinstance(node, ast.Import):
            found.update(part for alias in node.names for part in alias.name.split("."))
    return {name for name in found if private(name)}


def test_the_page_names_what_we_use_and_nothing_else() -> None:
    used = used_names() - own_names()
    for rules in (ROOT / "workflow").rglob("*.smk"):
        used |= {name for name in re.findall(r"\b_\w+", rules.read_text()) if private(name)}
    cells = [
        line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| part")
    ]
    named = {name for cell in cells for name in re.findall(r"(?<![a-zA-Z0-9])_[A-Za-z]\w*", cell) if private(name)}
    assert used - named == set(), "missing in docs/upgrades.md"
    assert named - used - OVERRIDDEN == set(), "no longer used: docs/upgrades.md"


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE))))
def test_each_test_that_the_page_names_exists(test: str) -> None:
    file, _, function = test.partition("::")
    path = Path(ROOT / file)
    assert path.is_file() and f"def {function}" in path.read_text()


def test_snakemake_asks_whether_a_file_is_protected() -> None:
    from snakemake.io import _IOFile

    assert inspect.iscoroutinefunction(_IOFile.protected)  # workflow/rules/common.smk puts another one in its place
