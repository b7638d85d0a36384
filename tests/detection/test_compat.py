"""The mends of Detectron2: where something is missing, and nowhere else."""

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest

from scfs.detection import compat
from scfs.errors import ScfsError

pytestmark = pytest.mark.detectron2

PACKAGE = Path(compat.__file__).parents[1]


def test_only_missing_names_are_added() -> None:
    module = ModuleType("library")
    module.old = "its own"  # type: ignore[attr-defined]
    compat.add_missing(module, {"old": "ours", "new": "ours"})
    assert (module.old, module.new) == ("its own", "ours")  # type: ignore[attr-defined]


def test_only_a_missing_module_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    compat.stand_in("json", dumps=lambda value: "ours")
    assert json.dumps(1) == "1" and sys.modules["json"] is json
    monkeypatch.setitem(sys.modules, "no_such_module", None)  # restored to what it was: nothing
    monkeypatch.delitem(sys.modules, "no_such_module")
    compat.stand_in("no_such_module", known=lambda: 3)
    module = sys.modules["no_such_module"]
    assert module.known() == 3
    with pytest.raises(ScfsError, match=r"no_such_module\.other is needed: this Detectron2 was installed without it"):
        module.other(1, key=2)
    assert not hasattr(module, "__path__")  # as of any module that is no package
    compat.stand_in("no_such_module", known=lambda: 4)
    assert sys.modules["no_such_module"].known() == 3
    sys.modules.pop("no_such_module")


def test_what_a_newer_build_has_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that was missing in place, be it ours or theirs, nothing is touched."""
    theirs = {"detectron2._C": ModuleType("theirs"), "pkg_resources": ModuleType("theirs")}
    for name, module in theirs.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(PIL.Image, "LINEAR", "theirs")
    monkeypatch.setattr(np, "int", "theirs", raising=False)
    compat.mend()
    assert all(sys.modules[name] is module for name, module in theirs.items())
    assert (PIL.Image.LINEAR, np.int) == ("theirs", "theirs")  # type: ignore[attr-defined]


def test_the_mends_work() -> None:
    from detectron2 import model_zoo
    from detectron2.data.transforms import ExtentTransform
    from detectron2.layers import deform_conv
    from detectron2.utils.collect_env import collect_env_info

    assert Path(model_zoo.get_config_file("Base-RCNN-FPN.yaml")).is_file()
    # An extent that is the whole image, enlarged to the image's own size.
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(ExtentTransform((0, 0, 4, 3), (3, 4)).apply_image(image), image)
    assert "detectron2" in collect_env_info()
    assert deform_conv._C is sys.modules["detectron2._C"]


def test_detectron2_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "detectron2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ScfsError, match=r"^Detectron2 is not installed: envs/README\.md says how$"):
        compat.mend()


def imports(path: Path) -> list[str]:
    """Modules that a file imports, in their order."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.lineno, f"{node.module}.{name.name}") for name in node.names]
    return [name for _, name in sorted(found)]


def test_it_is_imported_before_detectron2_and_only_detection_needs_either() -> None:
    users = {path: imports(path) for path in PACKAGE.rglob("*.py")}
    users = {path: names for path, names in users.items() if any(name.startswith("detectron2") for name in names)}
    assert {path.name for path in users} >= {"backbone.py", "recipes.py"}
    for path, names in users.items():
        first = next(place for place, name in enumerate(names) if name.startswith("detectron2"))
        assert path.parent.name == "detection" and "scfs.detection.compat" in names[:first], path
