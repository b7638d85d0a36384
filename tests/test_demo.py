"""What the finished demo study must show: it learns, it is complete, and nothing is left to do or to commit."""

import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from repository import command_environment, git

from scfs import paths
from scfs.config.study import Study, load_study

RUNS = ("demo-scfs", "demo-dino", "demo-random")


def run(folder: Path, *command: str, package: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env=command_environment(package or folder, warm=True), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.fixture
def study(demo: Path) -> Study:
    return load_study(demo / "params.yaml")


def test_there_is_nothing_left_to_do(demo: Path) -> None:
    assert "Nothing to be done" in run(demo, "snakemake", "-n")


def test_make_demo_again_does_nothing_and_shows_table_and_report(demo: Path) -> None:
    """The whole recipe of `make demo` but the set-up of .venv, for which this environment stands in."""
    (demo / ".venv").symlink_to(sys.prefix)
    try:
        said = run(demo, "make", "--assume-old=.venv/.scfs", "demo")
    finally:
        (demo / ".venv").unlink()
    assert "Nothing to be done" in said
    for text in ("Random weights", "DINO", "SCFS", f"Report: {paths.report('demo')}"):
        assert text in said
    assert (demo / paths.report("demo")).is_file()


def test_git_status_is_empty(demo: Path) -> None:
    assert git(demo, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("main", ["demo-random", "demo-dino", "demo-scfs"]),
        ("table2", ["demo-random", "demo-dino", "demo-scfs"]),
        ("table3", ["demo-scfs"]),
        ("table4", ["demo-random", "demo-scfs"]),
        ("table5", ["demo-random", "demo-scfs"]),
    ],
)
def test_a_table_has_a_finite_number_in_every_cell(demo: Path, study: Study, name: str, runs: list[str]) -> None:
    table = read(demo / paths.table("demo", name))
    assert [row["runs"] for row in table["rows"]] == [[run] for run in runs]
    for row in table["rows"]:
        assert len(row["cells"]) == len(study.tables[name].columns)
        assert all(math.isfinite(cell["mean"]) for cell in row["cells"])


@pytest.mark.parametrize("run_name", ["demo-random", "demo-scfs"])
def test_detectors_find_garments_and_their_masks(demo: Path, run_name: str) -> None:
    values = read(demo / paths.result(run_name, "coco-1x"))["values"]
    assert values["box_ap"] > 0 and values["mask_ap"] > 0
    assert values["box_ap50"] > values["box_ap"]


def test_fine_tuning_is_better_than_chance(demo: Path) -> None:
    """Of seven classes in the semi-supervised set, and of three that pre-training has not seen."""
    for run_name in ("demo-random", "demo-scfs"):
        assert read(demo / paths.result(run_name, "semi-supervised"))["values"]["top1"] > 2 * 100 / 7
        transfer = read(demo / paths.result(run_name, "transfer"))
        assert transfer["values"]["top1"] > 1.5 * 100 / 3
        best = max(cell["top1"] for cell in transfer["cells"].values() if "diverged" not in cell)
        chosen = [cell for cell in transfer["cells"].values() if transfer["chosen"].items() <= cell.items()]
        assert [cell["top1"] for cell in chosen] == [best]


def test_scfs_learns(demo: Path) -> None:
    top1 = {run: read(demo / paths.result(run, "linear"))["values"]["top1"] for run in RUNS}
    assert top1["demo-scfs"] >= top1["demo-random"] + 5
    assert read(demo / paths.result("demo-scfs", "pretrain"))["values"]["loss_data_over_ln_k"] < 0.9


class Requests(HTMLParser):
    """Collects what a page would fetch; links that a reader may follow are not among it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            fetched = name in ("src", "srcset", "data", "poster", "xlink:href") or (name == "href" and tag != "a")
            if fetched and value and not value.startswith(("data:", "#")):
                self.found.append(f"<{tag} {name}={value[:80]}>")


def test_the_report_needs_no_other_file(demo: Path) -> None:
    html = (demo / paths.report("demo")).read_text()
    page = Requests()
    page.feed(html)
    assert page.found == []
    assert "@import" not in html and "url(http" not in html
    for text in ("Random weights", "DINO", "SCFS", "<svg", "data:image/png;base64,"):
        assert text in html


def test_a_cell_of_a_grid_repeated_gives_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    for name in ("params.yaml", "data", "checkpoints"):
        (tmp_path / name).symlink_to(demo / name)
    run(tmp_path, "scfs", "tune", "transfer", "lr1-wd1", "--run", "demo-random", package=demo)
    result = paths.part("demo-random", "transfer", "lr1-wd1")
    assert (tmp_path / result).read_bytes() == (demo / result).read_bytes()


@pytest.mark.parametrize("evaluation", ["knn", "layers", "attention", "linear-cached", "linear"])
def test_an_evaluation_repeated_gives_the_same_bytes(demo: Path, tmp_path: Path, evaluation: str) -> None:
    for name in ("params.yaml", "data", "checkpoints"):
        (tmp_path / name).symlink_to(demo / name)
    run(tmp_path, "scfs", "evaluate", evaluation, "--run", "demo-random", package=demo)
    result = paths.result("demo-random", evaluation)
    assert (tmp_path / result).read_bytes() == (demo / result).read_bytes()
    if evaluation == "attention":
        maps = result.with_suffix(".npz")
        assert (tmp_path / maps).read_bytes() == (demo / maps).read_bytes()


def test_snakemakes_own_report(demo: Path, tmp_path: Path) -> None:
    run(demo, "snakemake", "--report", str(tmp_path / "report.html"))
    html = (tmp_path / "report.html").read_text()
    for name in ("main.md", "table4.md", "curves.svg", "layers.svg", "detections.png", "report.html"):
        assert name in html
