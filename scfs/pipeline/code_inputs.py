"""Files of code that make a cheap stage stale when they change: all that its modules import, directly or not."""

import ast
import inspect
from functools import cache
from pathlib import Path

from scfs.config.protocol import EVALUATIONS

ROOT = Path(__file__).resolve().parents[2]
"""Folder that the names of files are relative to; the present one need not be a copy of the project."""
EVALUATION, INSPECTION = "scfs.evaluation.run", "scfs.data.inspection"
NOT_FOLLOWED = ("scfs.config", "scfs.errors", "scfs.paths", "scfs.io.progress", "scfs.data.official.restore")
"""Modules whose code makes no stage stale: settings, which enter by their values; messages; and what restores missing
images, which have the manifest's hashes."""


def modules_of(kind: str) -> list[Path]:
    """List the modules that the number of an evaluation of this kind comes from; a plugin's own file among them."""
    protocol, own = EVALUATIONS[kind], _evaluating_modules()
    shared = _followed(EVALUATION, frozenset(own.values()))
    if protocol.__module__.startswith("scfs."):
        return _files(shared | _followed(own[protocol.__name__]))
    plugin = Path(inspect.getfile(protocol))
    imported = (_followed(name) for name in _imports(plugin) if not name.startswith(NOT_FOLLOWED))
    return [*_files(shared.union(*imported)), plugin]


@cache
def _evaluating_modules() -> dict[str, str]:
    """Find the module of scfs/evaluation that has the function for each protocol, by the protocol's class."""
    found = {}
    for path in sorted((ROOT / "scfs" / "evaluation").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "evaluates":
                    found[ast.unparse(decorator.args[0])] = f"scfs.evaluation.{path.stem}"
    return found


def inspection_modules() -> list[Path]:
    """Return the modules that the inspection of a data set comes from."""
    return _files(_followed(INSPECTION))


def report_modules() -> list[Path]:
    """Return the files that tables, figures and the report come from."""
    found = (path for path in (ROOT / "scfs" / "report").rglob("*") if path.suffix not in ("", ".pyc"))
    return sorted(path.relative_to(ROOT) for path in found)


def _files(modules: frozenset[str]) -> list[Path]:
    return sorted(map(module_file, modules))


def module_file(module: str) -> Path:
    """Return the file of a module, relative to the repository."""
    path = Path(module.replace(".", "/"))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


@cache
def _followed(module: str, left_out: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return a module and all modules of the package that it imports, directly or not; never those of `left_out`."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= {one for one in _imports(module_file(name)) if not one.startswith(NOT_FOLLOWED)} - found - left_out
    return frozenset(found)


@cache
def _imports(file: Path) -> frozenset[str]:
    """Return the modules of this package that a file imports, by absolute names, anywhere in it."""
    named: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in named if name.startswith("scfs.") and (ROOT / module_file(name)).is_file())
