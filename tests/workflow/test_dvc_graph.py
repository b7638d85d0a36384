"""Snakemake's rules and DVC's stages are one pipeline: job by job the same command, inputs, outputs and parameters."""

import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from repository import ROOT, command_environment, copy_repository

from scfs.config.study import load_study
from scfs.pipeline import sync
from scfs.pipeline.dvc_file import dvc_path, render

pytestmark = pytest.mark.end_to_end

HERE = Path(__file__).parent
STUDIES = ["params.yaml", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("config/*/params.yaml"))]


class Stage(NamedTuple):
    command: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    parameters: str


Graph = dict[str, Stage]


def snakemake_graph(folder: Path, study: str) -> Graph:
    command = ["warm-python", str(HERE / "job_graph.py"), *([] if study == "params.yaml" else [study])]
    # With the package of ROOT, which warm processes have loaded; the rules and the study are those of `folder`.
    run = subprocess.run(command, cwd=folder, env=command_environment(ROOT, warm=True), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    graph = {}
    for job in json.loads(run.stdout):
        if job["rule"] != "all":
            name, found = stage_name(job["rule"], job["wildcards"]), job["params"]
            assert set(found) - {"caption"} == {"parameters"} and name not in graph, name
            graph[name] = Stage(
                " ".join(job["command"].split()), frozenset(job["input"]), frozenset(job["output"]), found["parameters"]
            )
    return graph


def stage_name(rule: str, wildcards: dict[str, str]) -> str:
    if rule.startswith("evaluate"):
        return f"evaluate-{wildcards['evaluation']}@{wildcards['run']}"
    if rule in ("tune", "detect"):
        return f"{rule}-{wildcards['evaluation']}@{wildcards['run']}-{wildcards['part']}"
    if rule in ("finetune", "average"):
        return f"{rule}-{wildcards['evaluation']}@{wildcards['run']}"
    if rule.startswith("convert"):
        return f"convert-{wildcards['library']}@{wildcards['run']}"
    if rule.startswith("draw_"):
        return f"figure-{wildcards['figure']}"
    if rule == "table":
        return f"table-{wildcards['table']}"
    return "@".join([rule, *wildcards.values()])


DVC_STAGES = """
import json
from dvc.repo import Repo
with Repo(".") as repo:
    print(json.dumps([{
        "file": stage.path_in_repo,
        "name": stage.name,
        "addressing": stage.addressing,
        "command": stage.cmd,
        "inputs": [str(dep.def_path) for dep in stage.deps if dep not in stage.params],
        "outputs": [str(out.def_path) for out in stage.outs],
        "parameters": {str(dep.def_path): list(dep.params) for dep in stage.params},
    } for stage in repo.index.stages if stage.name]))
"""


@cache
def dvc_stages(folder: Path) -> list[dict[str, Any]]:
    command = ["warm-python", "-c", DVC_STAGES]
    run = subprocess.run(
        command, cwd=folder, env=command_environment(folder, warm=True), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found


def dvc_graph(folder: Path, study: str) -> Graph:
    """The stages of a study's dvc.yaml and of those of the studies that it includes, as DVC itself resolves them."""
    stages = dvc_stages(folder) if folder == ROOT else dvc_stages.__wrapped__(folder)
    included = yaml.safe_load((folder / study).read_text()).get("include", [])
    graph = {}
    for file in [study, *included]:
        for stage in (s for s in stages if s["file"] == str(Path(file).with_name("dvc.yaml"))):
            if file != study and re.match("table-|figure-|report", stage["name"]):
                continue  # of the included study alone
            assert stage["name"] not in graph, stage["name"]
            command_of_study = stage["command"].replace(f"--params {file} ", f"--params {study} ", 1)
            graph[stage["name"]] = Stage(
                command_of_study,
                frozenset(stage["inputs"]),
                frozenset(stage["outputs"]),
                value_hash(folder, stage["parameters"]),
            )
    return graph


def value_hash(folder: Path, parameters: dict[str, list[str]]) -> str:
    """Hash of the values that DVC compares: read here by other means than the project's."""
    chosen = []
    for file, keys in parameters.items():
        content, values = content_of((folder / file).read_text(), file.endswith(".py")), {}
        for key in keys:
            value = content
            for part in key.split("."):
                value = value[part]
            values[key] = value
        chosen.append(whole_numbers(values))
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def content_of(text: str, python: bool) -> Any:
    """Values of a file: a thousand stages have parameters in the same one."""
    if not python:
        return yaml.safe_load(text)
    assigned = (node for node in ast.parse(text).body if isinstance(node, ast.Assign))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}  # type: ignore[attr-defined]


def whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value == int(value) else value


def differences(ours: Graph, theirs: Graph) -> set[str]:
    """What differs, as "job: field" or "job: missing"."""
    found = {f"{name}: missing" for name in ours.keys() ^ theirs.keys()}
    for name in ours.keys() & theirs.keys():
        pairs = zip(Stage._fields, ours[name], theirs[name], strict=True)
        found |= {f"{name}: {part}" for part, mine, other in pairs if mine != other}
    return found


@pytest.mark.parametrize("study", STUDIES)
def test_both_tools_have_the_same_jobs(study: str) -> None:
    graph = snakemake_graph(ROOT, study)
    assert graph and differences(graph, dvc_graph(ROOT, study)) == set()


def test_every_stage_has_the_name_in_sync_that_dvc_has_for_it() -> None:
    ours = {name for study in STUDIES for name in sync.jobs_of(load_study(Path(study)))}
    assert ours == {stage["addressing"] for stage in dvc_stages(ROOT)}


@pytest.mark.parametrize("study", STUDIES)
def test_the_file_of_dvc_is_current(study: str) -> None:
    loaded = load_study(Path(study))
    assert dvc_path(loaded).read_text() == render(loaded), "run `make dvc`"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_repository(tmp_path_factory.mktemp("graph"), every_dvc_file=False)


@pytest.fixture(scope="module")
def graphs(copy: Path) -> tuple[Graph, Graph]:
    return snakemake_graph(copy, "params.yaml"), dvc_graph(copy, "params.yaml")


MUTATIONS: dict[str, tuple[str, str, str, str]] = {
    # what: file, text, its replacement, a difference that must be seen
    "dvc loses a run": ("dvc.yaml", "      demo-dino:\n        dataset: garments\n", "", "pretrain@demo-dino: missing"),
    "dvc loses an input": (
        "dvc.yaml",
        "      deps:\n        - data/${item.dataset}/manifest.parquet\n",
        "",
        "pretrain@demo-scfs: inputs",
    ),
    "dvc loses a parameter": ("dvc.yaml", "            - pretrain\n", "", "pretrain@demo-scfs: parameters"),
    "dvc gets another command": ("dvc.yaml", " pretrain --run ${key}", " pretrain --run x", "pretrain@demo-dino: command"),
    "dvc loses an output": ("dvc.yaml", "        - results/runs/${key}/curve.csv\n", "        - other.csv\n",
                            "pretrain@demo-random: outputs"),
    "snakemake loses an input": (
        "workflow/rules/evaluate.smk",
        "        manifest=lambda wildcards: paths.manifest(study.evaluate[wildcards.evaluation].dataset),\n",
        "",
        "evaluate-knn@demo-scfs: inputs",
    ),
    "snakemake loses a parameter": (
        "workflow/rules/pretrain.smk",
        'jobs.parameters_hash(study, "pretrain", wildcards.run)',
        'jobs.parameters_hash(study, "convert")',
        "pretrain@demo-scfs: parameters",
    ),
    "snakemake loses an output": (
        "workflow/rules/report.smk",
        '        metrics=paths.metrics(study.study, "{table}"),\n',
        "",
        "table-main: outputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_mutation_is_seen(what: str, copy: Path, graphs: tuple[Graph, Graph]) -> None:
    name, old, new, expected = MUTATIONS[what]
    file, (of_snakemake, of_dvc) = copy / name, graphs
    assert differences(of_snakemake, of_dvc) == set()
    before = file.read_text()
    assert old in before, what
    file.write_text(before.replace(old, new, 1))
    read: Callable[[Path, str], Graph] = dvc_graph if name == "dvc.yaml" else snakemake_graph
    try:
        mutated = read(copy, "params.yaml")
    finally:
        file.write_text(before)
    found = differences(of_snakemake, mutated) if name == "dvc.yaml" else differences(mutated, of_dvc)
    assert expected in found


def test_runs_that_start_from_weights_depend_on_them(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    before = {name: Path(name).read_text() for name in ("params.yaml", "dvc.yaml")}
    files = {"of-a-run": "checkpoints/demo-scfs.safetensors", "of-a-file": "theirs/r18.pth", "of-another": "a b.pth"}
    values = yaml.safe_load(before["params.yaml"])
    values["runs"] |= {run: {"init": file} for run, file in files.items()}
    for file in list(files.values())[1:]:
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()
    try:
        Path("params.yaml").write_text(yaml.safe_dump(values))
        Path("dvc.yaml").write_text(render(load_study(Path("params.yaml"))))
        graph = snakemake_graph(copy, "params.yaml")
        assert differences(graph, dvc_graph(copy, "params.yaml")) == set()
    finally:
        for name, text in before.items():
            Path(name).write_text(text)
    for run, file in files.items():
        assert graph[f"pretrain_init@{run}"].inputs == {"data/garments/manifest.parquet", file}
