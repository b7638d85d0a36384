"""Copies of the package: as it is, and with a new field in each configuration class.

A copy is a folder with `scfs`, the studies and a REVISION, as a job's snapshot of the code has. A file that says what it
is run with: `python tests/config/grown_package.py commands` or `identities`, in the copy to be tried.
"""

import ast
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repository import ROOT

BASE = "Config"
NEW = "new_in_"


def copy_package(folder: Path, grown: bool) -> list[str]:
    """Copy the package and the studies to `folder`; return the classes that got a field with the default 0."""
    shutil.copytree(ROOT / "scfs", folder / "scfs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", folder / "config")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "REVISION").write_text("f" * 40 + "\n")
    files = {path: path.read_text() for path in (folder / "scfs").rglob("*.py")} if grown else {}
    classes = [(path, node) for path, text in files.items() for node in ast.parse(text).body if is_class(node)]
    names = configurations({node.name: bases(node) for _, node in classes})
    for path in files:
        lines = files[path].splitlines(keepends=True)
        for of, node in reversed(classes):
            if of == path and names.union({BASE}).intersection(bases(node)):
                first = node.body[0]
                docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                at = first.end_lineno if docstring else first.lineno - 1
                lines.insert(at, f'    {NEW}{node.name}: int = 0\n    """A field that was added."""\n')
        path.write_text("".join(lines))
    return sorted(names)


def is_class(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef)


def bases(node: Any) -> list[str]:
    return [base.id for base in node.bases if isinstance(base, ast.Name)]


def configurations(classes: dict[str, list[str]]) -> set[str]:
    """Names of the classes that are made of `Config`, directly or not."""
    found = {BASE}
    while more := {name for name, own in classes.items() if set(own) & found} - found:
        found |= more
    return found - {BASE}


# --- in a process of a copy ---


def run_commands(lines: list[str]) -> None:
    """Run commands of scfs one after the other; print a JSON list of what each is refused with, or None."""
    from scfs.cli import app
    from scfs.errors import ScfsError

    said: list[str | None] = []
    for line in lines:
        try:
            app(line.split(), standalone_mode=False)
            said.append(None)
        except ScfsError as error:
            said.append(str(error))
    print(json.dumps(said))


def print_identities(extra: dict[str, Any]) -> None:
    """Print identities and DVC's file of all studies, and what a new field does that is not at its default."""
    import recorded_identities

    from scfs.config.identity import identity
    from scfs.config.study import load_study, parse_study
    from scfs.pipeline.dvc_file import render

    studies = [load_study(Path(file)) for file in recorded_identities.STUDIES]
    moved: dict[str, bool] = {}
    for study in [*studies, parse_study(extra)]:
        configurations = [*study.data.values(), *study.evaluate.values(), *map(study.settings, study.runs)]
        for config in configurations:
            for name, changed in with_a_new_value(config):
                moved[name] = moved.get(name, True) and identity("prepare", changed) != identity("prepare", config)
    found = {
        "identities": recorded_identities.of_all_studies(),
        "dvc": {str(study.path.parent): render(study) for study in studies},
        "moved": moved,
    }
    print(json.dumps(found))


def with_a_new_value(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield each new field of a configuration and of its parts, and the whole with another value of that field."""
    for path, part in parts(config):
        for field in (field for field in type(part).model_fields if field.startswith(NEW)):
            values = config.model_dump(mode="json")
            place = values
            for key in path:
                place = place[key]
            place[field] = 1
            yield field.removeprefix(NEW), type(config).model_validate(values)


def parts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    from scfs.config.base import Config

    items: Any = ()
    if isinstance(value, Config):
        yield path, value
        items = [(name, getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        yield from parts(item, (*path, key))


if __name__ == "__main__":
    {"commands": run_commands, "identities": print_identities}[sys.argv[1]](json.loads(sys.argv[2]))
