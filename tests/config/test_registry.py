"""Registries, and the plugins that add to them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest

from scfs.config.base import Config, parse
from scfs.config.registry import KindRegistry, NameIn, Registry, load_plugins
from scfs.errors import ScfsError


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Let plugins be loaded anew, before and after."""
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


def shapes() -> KindRegistry[Config]:
    """A registry of two configuration classes."""
    registry: KindRegistry[Config] = KindRegistry("shape")

    @registry.add("square")
    class Square(Config):
        shape: Literal["square"]
        side: int = 1

    @registry.add_kind
    class Circle(Config):
        shape: Literal["circle"]
        radius: int = 2

    return registry


def test_names_keep_their_order_and_a_wrong_one_is_named_with_what_is_allowed() -> None:
    registry = shapes()
    assert list(registry) == ["square", "circle"]
    assert [shape.__name__ for shape in registry.values()] == ["Square", "Circle"]
    assert "circle" in registry and "oval" not in registry
    with pytest.raises(ScfsError, match=r"^shape = 'oval': not among \['circle', 'square'\]$"):
        registry["oval"]


def test_a_name_is_given_once() -> None:
    registry = shapes()
    with pytest.raises(ScfsError, match=rf"^shape = 'square': registered twice, the first time by {__name__}$"):
        registry.add("square")(Config)


def test_a_field_takes_what_is_registered_when_it_is_first_used() -> None:
    registry = shapes()

    class Drawing(Config):
        data: dict[str, Annotated[Config, registry]]
        first: Annotated[str, NameIn(registry)] = "square"

    @registry.add("line")
    class Line(Config):
        shape: Literal["line"]
        length: int = 3

    drawing = parse(Drawing, {"data": {"a": {"shape": "line"}}, "first": "line"}, "file")
    assert drawing.data["a"] == Line(shape="line") and drawing.first == "line"
    schema = Drawing.model_json_schema()
    assert set(schema["$defs"]) == {"Square", "Circle", "Line"}
    assert schema["properties"]["first"]["enum"] == ["square", "circle", "line"]
    for values, message in [
        ({"data": {"a": {"shape": "oval"}}}, r"file: data\.a\.shape = 'oval': not among 'square', 'circle', 'line'"),
        ({"data": {"a": {"shape": "line", "width": 1}}}, r"file: unknown key 'data\.a\.width'"),
        ({"data": {"a": {"radius": 1}}}, r"file: key 'data\.a\.shape' is missing"),
        ({"data": {}, "first": "oval"}, r"file: first = 'oval': Input should be 'square', 'circle' or 'line'"),
    ]:
        with pytest.raises(ScfsError, match=message):
            parse(Drawing, values, "file")


def test_plugins_are_loaded_when_a_registry_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Registry[str] = Registry("colour")
    registry.add("red")("ours")
    monkeypatch.setattr(sys.modules[__name__], "COLOURS", registry, raising=False)
    for name in ("by_variable", "by_entry_point"):
        text = f"from {__name__} import COLOURS\n\nCOLOURS.add({name!r})({name!r})\n"
        (tmp_path / f"plugin_{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"plugin_{name}", raising=False)
    monkeypatch.setenv("SCFS_PLUGINS", " plugin_by_variable ,")
    (tmp_path / "mine-1.dist-info").mkdir()
    (tmp_path / "mine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (tmp_path / "mine-1.dist-info" / "entry_points.txt").write_text("[scfs.plugins]\nmine = plugin_by_entry_point\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # pytest's own way breaks on some pkg_resources
    assert list(registry) == ["red", "by_variable", "by_entry_point"]
    assert list(registry) == ["red", "by_variable", "by_entry_point"]


def test_a_plugin_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_broken.py").write_text("1 / 0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # pytest's own way breaks on some pkg_resources
    for module, message in [
        ("plugin_broken", "cannot be imported: ZeroDivisionError: division by zero"),
        ("plugin_absent", "cannot be imported: ModuleNotFoundError: No module named 'plugin_absent'"),
    ]:
        monkeypatch.setenv("SCFS_PLUGINS", module)
        with pytest.raises(ScfsError, match=f"^SCFS_PLUGINS: {module}: {message}$"):
            list(shapes())
