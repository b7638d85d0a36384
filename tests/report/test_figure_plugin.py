"""A kind of figure from outside the package: one module, named by SCFS_PLUGINS, is all that it takes."""

import json
import subprocess
import sys
from pathlib import Path

import yaml
from fake_results import STUDY, FakeResults
from repository import ROOT, toy_environment

from scfs import paths
from scfs.config.study import Study

SCRIPT = """
import json, sys
from pathlib import Path
from scfs.cli.app import app
from scfs.config.study import load_study, params_schema
from scfs.errors import ScfsError
from scfs.pipeline import jobs

assert "matplotlib" not in sys.modules
study = load_study(Path("params.yaml"))
found = {"kinds": [name for name in params_schema()["$defs"] if name.startswith("Toy")]}
found["jobs"] = [[job.stage, list(map(str, job.plots))] for job in jobs.jobs(study) if "toy" in job.stage]
found["inputs"] = list(map(str, jobs.figure_results(study, "toy")))
found["matplotlib"] = "matplotlib" in sys.modules
try:
    load_study(Path("wrong.yaml"))
except ScfsError as error:
    found["refused"] = str(error)
for command in (["figure", "toy"], ["table", "main"], ["report"], ["publish", "toy", "main"]):
    app(["--params", "params.yaml", *command], standalone_mode=False)
print(json.dumps(found))
"""


def test_a_kind_from_outside_is_checked_listed_drawn_reported_and_published(
    fake: FakeResults, study: Study, tmp_path: Path
) -> None:
    (tmp_path / "scfs").symlink_to(ROOT / "scfs")  # the report's code is an input of its jobs
    toy = {"kind": "toy_bars", "evaluation": "knn", "height": 2}
    for name, figure in {"params": toy, "wrong": {**toy, "evaluation": "layers"}}.items():
        values = {**STUDY, "figures": {"toy": figure, "curves": {"kind": "curves"}}}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.run(command, env=toy_environment("figure"), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    drawn = paths.figure("fake", "toy", "png")
    assert found["kinds"] == ["ToyBars"] and found["jobs"] == [["figure-toy", [str(drawn)]]]
    assert found["inputs"] == [str(paths.result(r, e)) for r in study.runs for e in ("pretrain", "knn")]
    assert not found["matplotlib"], "a study is read without matplotlib"
    assert found["refused"].endswith(
        "figures.toy: evaluation 'layers' is of the kind layers: a figure of the kind toy_bars shows knn"
    )
    assert drawn.read_bytes().startswith(b"\x89PNG")
    page = paths.report("fake").read_text()
    assert 'id="figure-toy"' in page and "Bars &amp; more" in page and "A bar for each run." in page
    published = paths.published("fake")
    assert (published / "toy.png").read_bytes() == drawn.read_bytes() and (published / "main.md").is_file()
