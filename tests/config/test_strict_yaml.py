"""YAML that means more than one thing, or too much, is refused in one line with the place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scfs.config.base import parse_overrides
from scfs.config.strict_yaml import DEEPEST, load_yaml
from scfs.config.study import load_study, read_yaml
from scfs.errors import ScfsError

ROOT = Path(__file__).resolve().parents[2]
BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
CHAIN = f"a0: &a0 {'[' * 30}{']' * 30}\na1: {'[' * 30}*a0{']' * 30}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study: x\nruns: {}\nstudy: y\n", "key 'study' stands in line 1 and again in line 3"),
        ("pretrain:\n  epochs: 1\n  batch: 2\n  'epochs': 3\n", "key 'epochs' stands in line 2 and again in line 4"),
        ("runs: {a: {}, b: {}, a: {lr: 1}}\n", "key 'a' stands in line 1 and again in line 1"),
        ("- {x: [{k: 1,\n k: 2}]}\n", "key 'k' stands in line 1 and again in line 2"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", "key '<<' stands in line 2 and again in line 2"),
        ("[" * 200_000, f"line 1: allowed are {DEEPEST} levels"),
        ("{a: " * 200_000, f"line 1: allowed are {DEEPEST} levels"),
        ("".join(" " * n + "a:\n" for n in range(1000)), f"line {DEEPEST}: allowed are {DEEPEST} levels"),
        (CHAIN, f"allowed are {DEEPEST} levels"),
        (BOMB, "values, aliases written out"),
        ("a: &a [1, *a]\n", "line 1: alias 'a' names nothing before it"),
        ('study: x\ninclude: ["\\0"]\n', "line 2: NUL is not allowed"),
        ('"a\\0": 1\n', "line 1: NUL is not allowed"),
        ("day: 2025-13-01\n", "month must be in 1..12"),
        ("a: !!int ''\n", "IndexError"),
        ("a: !!timestamp x\n", "AttributeError"),
        ("a: !!bool x\n", "KeyError"),
        ('a: "\\ud800"\n', "invalid Unicode character"),
        ("a: *b\n", "alias 'b' names nothing before it"),
        ("a: [1\n", "expected"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ScfsError, match=r"params.yaml: not valid YAML: ") as error:
        read_yaml(file)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_aliases_merges_and_equal_keys_of_several_mappings_are_read_as_by_pyyaml() -> None:
    text = "a: &a {x: &x [1], y: {x: 2}}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: *x}]}\nd: {? [p, q] : 1}\n"[:-16]
    assert load_yaml(text) == yaml.safe_load(text)
    for file in [ROOT / "params.yaml", *ROOT.glob("config/*/params.yaml")]:
        assert load_yaml(file.read_text()) == yaml.safe_load(file.read_text())
    assert load_yaml("") is None


def test_what_stands_on_the_command_line() -> None:
    with pytest.raises(ScfsError, match=r"--set .*: not valid YAML: key 'lr' stands in line 1 and again in line 1"):
        parse_overrides(["optimizer={lr: 1, lr: 2}"])
    with pytest.raises(ScfsError, match=r"^--set .*: not valid YAML: line 1: allowed are 50 levels"):
        parse_overrides(["optimizer=" + "[" * 100_000])


def test_a_study_that_includes_itself_by_links(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("params.yaml").write_text("study: x\ninclude: [loop.yaml]\n")
    with pytest.raises(ScfsError, match=r"^loop.yaml: cannot be read: Too many levels of symbolic links"):
        load_study(Path("params.yaml"))
