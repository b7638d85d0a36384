"""The workflow: what is made from what, what makes a stage stale, interruption, messages. `scfs` is a stand-in here."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from repository import ROOT, command_environment, copy_folder, copy_repository, git

from scfs import paths
from scfs.config.study import Study, load_study, params_schema
from scfs.evaluation.run import EVALUATE
from scfs.pipeline.code_inputs import inspection_modules, modules_of

pytestmark = pytest.mark.end_to_end

HERE = Path(__file__).parent
ORDER = ["input", "output", "log", "benchmark", "wildcard_constraints", "threads", "resources", "params", "shell"]
EVALUATIONS = {"knn", "layers", "attention", "linear-cached", "linear"}
RUNS = {"demo-scfs", "demo-dino", "demo-random"}
CELLS = ("lr0-wd0", "lr0-wd1", "lr1-wd0", "lr1-wd1")
TRANSFERRED, DETECTED = (
    {"demo-scfs", "demo-random"},
    {("coco-1x", "demo-scfs"), ("coco-1x", "demo-random"), ("voc", "demo-scfs")},
)
TABLES = {f"table {name}" for name in ("main", "table2", "table3", "table4", "table5")}
FIGURES = {f"figure {name}" for name in ("curves", "layers", "attention", "detections", "precision-recall")}
REPORT = {*TABLES, *FIGURES, "report"}


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(ROOT / "params.yaml")


def job_graph(*config_files: str) -> list[dict[str, Any]]:
    command = ["warm-python", str(HERE / "job_graph.py"), *config_files]
    run = subprocess.run(command, cwd=ROOT, env=command_environment(ROOT, warm=True), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    jobs: list[dict[str, Any]] = json.loads(run.stdout)
    return jobs


@pytest.fixture(scope="module")
def jobs() -> list[dict[str, Any]]:
    return job_graph()


# --- the graph ---


def test_the_snakefile_only_lists() -> None:
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 80


def test_directives_stand_in_one_order() -> None:
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for rule in re.split(r"^ *(?:use )?rule\b.*:$", file.read_text(), flags=re.MULTILINE)[1:]:
            found = [d for d in re.findall(r"^ {4,8}(\w+):$", rule, flags=re.MULTILINE) if d in ORDER]
            assert found and found == sorted(found, key=ORDER.index), f"{file.name}: {found}"


def test_there_is_a_job_for_each_stage_of_the_study(jobs: list[dict[str, Any]], study: Study) -> None:
    commands = [shlex.split(job["command"])[5:] for job in jobs if job["rule"] != "all"]
    expected = [[stage, dataset] for stage in ("prepare", "inspect") for dataset in study.data]
    expected += [["pretrain", "--run", run] for run in study.runs]
    expected += [["convert", "--run", run, "--to", "safetensors"] for run in study.runs if study.run(run).epochs]
    expected += [["evaluate", name, "--run", run] for run in study.runs for name in EVALUATIONS]
    expected += [line.split() for line in {*downstream(RUNS), *REPORT}]
    assert sorted(commands) == sorted(expected)


def test_all_asks_for_an_output_of_every_job_and_each_has_a_log(jobs: list[dict[str, Any]]) -> None:
    wanted = set(next(job for job in jobs if job["rule"] == "all")["input"])
    for job in jobs:
        assert job["rule"] == "all" or (wanted & set(job["output"]) and job["log"]), job["rule"]


def test_commands_read_the_file_that_snakemake_reads(tmp_path: Path) -> None:
    other = tmp_path / "other {run}.yaml"
    other.write_text((ROOT / "params.yaml").read_text().replace("torch_threads: 1", "torch_threads: 2"))
    for job in (job for job in job_graph(str(other)) if job["command"]):
        assert (ROOT / shlex.split(job["command"])[2]).resolve() == other.resolve()
        computing = ("pretrain", "evaluate", "tune", "finetune", "detect")
        assert job["threads"] == (2 if job["rule"].startswith(computing) else 1)


def test_pretraining_depends_on_its_data_alone(jobs: list[dict[str, Any]]) -> None:
    for job in (job for job in jobs if job["rule"] == "pretrain"):
        assert job["input"] == [str(paths.manifest("garments"))]


LOADED = """
import importlib, json, sys
from types import ModuleType
restore = ModuleType("scfs.data.official.restore")  # images that it restores have the manifest's hashes
restore.__getattr__, restore.__file__ = (lambda name: None), "__init__.py"
sys.modules[restore.__name__] = restore
import scfs.config.study
settings = set(sys.modules)
importlib.import_module(sys.argv[1])
loaded = [name for name in sys.modules if name.startswith("scfs.") and name not in settings]
print(json.dumps([name for name in loaded if "__init__" not in sys.modules[name].__file__]))
"""
"""Prints the modules that Python loads with one, but for empty packages and what the settings load."""
NO_INPUT = ("scfs.config", "scfs.errors", "scfs.paths", "scfs.io.progress")


def loaded_files(module: str, folder: Path) -> set[Path]:
    """Files that a process with nothing of the package loads; `folder` has a copy, as some load it from ROOT beforehand."""
    command = ["warm-python", "-c", LOADED, module]
    environment = command_environment(folder, warm=True)
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    names = [name for name in json.loads(run.stdout) if not name.startswith(NO_INPUT)]
    return {Path(name.replace(".", "/")).with_suffix(".py") for name in names}


def test_no_module_that_evaluations_load_is_left_out(study: Study, finished: Path) -> None:
    kinds = [kind for kind in EVALUATE if kind in {protocol.kind for protocol in study.evaluate.values()}]
    found = {path for kind in EVALUATE for path in modules_of(kind)}
    assert len(kinds) == len(EVALUATIONS) and loaded_files("scfs.evaluation.run", finished) <= found
    shared = set.intersection(*(set(modules_of(kind)) for kind in kinds))
    assert {Path("scfs/weights/store.py"), Path("scfs/runtime/device.py"), Path("scfs/views/images.py")} <= shared


def test_no_module_that_an_inspection_loads_is_left_out(finished: Path) -> None:
    assert loaded_files("scfs.data.inspection", finished) <= set(inspection_modules())


def test_inspections_have_their_modules_as_inputs(jobs: list[dict[str, Any]]) -> None:
    for job in (job for job in jobs if job["rule"] == "inspect"):
        modules = set(map(str, inspection_modules()))
        assert set(job["input"]) == {str(paths.manifest(job["wildcards"]["dataset"])), *modules}


def test_evaluations_have_their_modules_as_inputs(jobs: list[dict[str, Any]], study: Study) -> None:
    for job in (job for job in jobs if job["rule"].startswith("evaluate")):
        kind = study.evaluate[job["wildcards"]["evaluation"]].kind
        assert set(map(str, modules_of(kind))) <= set(job["input"]), kind


def test_a_study_without_tables_and_maps_has_a_graph(tmp_path: Path) -> None:
    small = yaml.safe_load((ROOT / "params.yaml").read_text())
    small["tables"], small["figures"] = {}, {"curves": {"kind": "curves"}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    rules = {job["rule"] for job in job_graph(str(tmp_path / "small.yaml"))}
    assert rules == {"all", "prepare", "inspect", "pretrain", "convert", "draw_svg", "report"}


# --- the schema ---


def test_the_schema_in_the_repository_is_current() -> None:
    written = json.loads((ROOT / "workflow" / "schemas" / "params.schema.json").read_text())
    assert written == params_schema(), "run make schema"


def test_the_schema_accepts_the_demo_and_no_unknown_key() -> None:
    demo = yaml.safe_load((ROOT / "params.yaml").read_text())
    schema = params_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(demo)
    for place in (
        demo,
        demo["pretrain"],
        demo["pretrain"]["views"],
        demo["runs"]["demo-scfs"],
        demo["evaluate"]["knn"],
    ):
        place["colour"] = 1
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(demo)
        del place["colour"]


# --- running it ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_repository(tmp_path_factory.mktemp("finished"))
    snakemake(folder)
    return folder


@pytest.fixture
def folder(finished: Path) -> Iterator[Path]:
    """The finished workflow, for tests that run no stage; what they `replace` or `lose` is put back."""
    yield finished
    for kept in finished.rglob("*.kept"):
        kept.replace(kept.with_suffix(""))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished workflow, for tests that run stages."""
    return copy_folder(finished, tmp_path / "copy")


def stand_in_environment(folder: Path, warm: bool = True) -> dict[str, str]:
    """With the package of ROOT, which warm processes have loaded; the rules look at the files of `folder`."""
    programs = folder / ".git" / "stand-in"  # where git status does not look
    programs.mkdir(exist_ok=True)
    program, python = programs / "scfs", "warm-python" if warm else shlex.quote(sys.executable)
    program.write_text(f'#!/bin/sh\nexec {python} {shlex.quote(str(HERE / "stand_in.py"))} "$@"\n')
    program.chmod(0o755)
    environment = command_environment(ROOT, warm)
    return {**environment, "PATH": f"{programs}{os.pathsep}{environment['PATH']}"}


def snakemake(folder: Path, *arguments: str, fails: bool = False) -> str:
    command = ["snakemake", *arguments]
    run = subprocess.run(command, cwd=folder, env=stand_in_environment(folder), capture_output=True, text=True)
    assert (run.returncode != 0) == fails, run.stderr
    return run.stdout + run.stderr


def planned(folder: Path) -> set[str]:
    """Stages that would run again, such as "prepare garments"."""
    commands = re.findall(
        r"Shell command: (?:SCFS_LAUNCH=\S* )?scfs (.*)", snakemake(folder, "--dry-run", "--printshellcmds")
    )
    return {" ".join(shlex.split(command)[4:]) for command in commands}


def evaluated(evaluations: set[str], runs: set[str]) -> set[str]:
    return {f"evaluate {evaluation} --run {run}" for evaluation in evaluations for run in runs}


def converted(runs: set[str]) -> set[str]:
    return {f"convert --run {run} --to safetensors" for run in runs}


def downstream(runs: set[str]) -> set[str]:
    """What trains further from the weights of these runs, and the weights for Detectron2."""
    jobs = {f"finetune semi-supervised --run {run}" for run in runs}
    for run in runs & TRANSFERRED:
        jobs |= {f"finetune transfer --run {run}", *(f"tune transfer {cell} --run {run}" for cell in CELLS)}
    for evaluation, run in (pair for pair in DETECTED if pair[1] in runs):
        jobs |= {f"detect {evaluation} trial-0 --run {run}", f"average {evaluation} --run {run}"}
        jobs |= {f"convert --run {run} --to detectron2"}
    return jobs


def test_bare_snakemake_runs_everything_once(finished: Path) -> None:
    every = {f"{stage} {data}" for stage in ("prepare", "inspect") for data in ("garments", "garments-detection")}
    every |= {f"pretrain --run {run}" for run in RUNS}
    every |= evaluated(EVALUATIONS, RUNS) | downstream(RUNS) | REPORT | converted({"demo-scfs", "demo-dino"})
    assert sorted((finished / "logs" / "calls.txt").read_text().splitlines()) == sorted(every)


def test_a_second_run_has_nothing_to_do(folder: Path) -> None:
    assert "Nothing to be done" in snakemake(folder)


def test_git_sees_nothing_of_it(folder: Path) -> None:
    assert git(folder, "status", "--porcelain") == ""


def test_each_table_and_figure_is_a_target(folder: Path) -> None:
    targets = ["table_main", "table_table4", "figure_curves", "figure_layers", "figure_attention", "figure_detections"]
    assert "Nothing to be done" in snakemake(folder, *targets)


def test_another_setting_repeats_that_run(folder: Path) -> None:
    replace(folder / "params.yaml", "demo-dino: {method: dino}", "demo-dino: {method: dino, seed: 1}")
    trained = {"pretrain --run demo-dino"} | evaluated(EVALUATIONS, {"demo-dino"}) | converted({"demo-dino"})
    assert planned(folder) == trained | downstream({"demo-dino"}) | REPORT


def test_reordered_keys_and_another_spelling_of_a_number_repeat_nothing(folder: Path) -> None:
    params = folder / "params.yaml"
    replace(params, "dataset: garments\n  backbone: narrow_resnet18", "backbone: narrow_resnet18\n  dataset: garments")
    replace(params, "{kind: knn, dataset: garments,", "{dataset: garments, kind: knn,")
    replace(params, "source: garment-scenes\n    seed: 0\n", "seed: 0\n    source: garment-scenes\n")
    replace(params, "epochs: 8 ", "epochs: 8.0 ")
    assert planned(folder) == set()


def test_another_protocol_repeats_that_evaluation(folder: Path) -> None:
    replace(folder / "params.yaml", "knn: {kind: knn,", "knn: {kind: knn, temperature: 0.1,")
    assert planned(folder) == evaluated({"knn"}, RUNS) | REPORT


def test_another_detector_repeats_its_trainings_alone(folder: Path) -> None:
    replace(folder / "params.yaml", "  voc: {<<: *small,", "  voc: {<<: *small, seed: 1,")
    jobs = {"detect voc trial-0 --run demo-scfs", "average voc --run demo-scfs"}
    assert planned(folder) == jobs | REPORT


def test_another_recipe_repeats_its_detectors(folder: Path) -> None:
    replace(folder / "scfs" / "detection" / "recipes" / "voc_faster_rcnn_c4.yaml", "BASE_LR: 0.02", "BASE_LR: 0.03")
    jobs = {"detect voc trial-0 --run demo-scfs", "average voc --run demo-scfs"}
    assert planned(folder) == jobs | {"table table3", "report"}


def test_a_lost_cell_of_a_grid_is_made_again(folder: Path) -> None:
    lose(folder / paths.part("demo-scfs", "transfer", "lr1-wd0"))
    jobs = {"tune transfer lr1-wd0 --run demo-scfs", "finetune transfer --run demo-scfs"}
    assert planned(folder) == jobs | {"table table5", "report"}


def test_swapped_settings_are_seen(folder: Path) -> None:
    replace(folder / "params.yaml", "width: 64 ", "width: 256 ")
    replace(folder / "params.yaml", "hidden: 256 ", "hidden: 64 ")
    assert {f"pretrain --run {run}" for run in RUNS} <= planned(folder)


def change(folder: Path, *modules: str) -> None:
    for module in modules:
        replace(folder / "scfs" / module, '"""\n', '"""\n# changed\n')


def test_code_of_the_training_makes_nothing_stale(folder: Path) -> None:
    change(
        folder,
        "training/pretrain.py",
        "training/loop.py",
        "model/losses.py",
        "model/methods/scfs.py",
        "config/pretrain.py",
    )
    change(folder, "evaluation/finetune/training.py", "detection/training.py", "weights/export.py")
    assert "Nothing to be done" in snakemake(folder)


def test_what_every_evaluation_imports_makes_all_stale_and_no_training(folder: Path) -> None:
    change(folder, "views/images.py")
    shown = {"table main", "figure layers", "figure attention", "report"}
    assert planned(folder) == evaluated(EVALUATIONS, RUNS) | shown


def test_code_of_an_evaluation_makes_it_stale(folder: Path) -> None:
    change(folder, "evaluation/knn.py")
    # The figures of other results are as they were.
    assert planned(folder) == evaluated({"knn", "layers"}, RUNS) | {"table main", "figure layers", "report"}


def test_the_search_makes_attention_stale(folder: Path) -> None:
    change(folder, "model/search.py")
    assert planned(folder) == evaluated({"attention"}, RUNS) | {"table main", "figure attention", "report"}


def test_code_of_the_inspection_makes_the_inspections_and_the_report_stale(folder: Path) -> None:
    change(folder, "data/inspection.py")
    assert planned(folder) == {"inspect garments", "inspect garments-detection", "report"}


def test_a_lost_result_is_made_again(folder: Path) -> None:
    lose(folder / paths.result("demo-scfs", "knn"))
    assert planned(folder) == evaluated({"knn"}, {"demo-scfs"}) | {"table main", "report"}


def test_snakemakes_own_report(folder: Path, tmp_path: Path) -> None:
    snakemake(folder, "--report", str(tmp_path / "report.html"))
    html = (tmp_path / "report.html").read_text()
    for text in ("Measured values", "Means over each epoch", "k-NN on the pooled maps", "Mean search attention map"):
        assert text in html


# --- interruption ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_is_left_time_to_save_and_repeated(copy: Path, number: signal.Signals) -> None:
    (copy / paths.weights("demo-scfs")).unlink()
    environment = {**stand_in_environment(copy, warm=False), "STAND_IN_SLOW": "1"}
    command = ["snakemake", str(paths.weights("demo-scfs"))]
    # A session of its own, as a terminal's: Ctrl-C goes to Snakemake and to its jobs.
    with subprocess.Popen(command, cwd=copy, env=environment, stderr=subprocess.PIPE, start_new_session=True) as run:
        state = copy / "runs" / "demo-scfs"
        deadline = time.monotonic() + 60
        while not (state / "started").exists() and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(run.pid, number)
        assert run.wait(60) != 0
    assert (state / "saved").exists()
    assert not (copy / paths.weights("demo-scfs")).exists()
    snakemake(copy, *command[1:])  # no lock, no incomplete files in its way
    assert (copy / paths.weights("demo-scfs")).exists()
    assert (state / "saved").exists(), "the state to resume from was deleted"


# --- messages ---


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("lr: 0.8", "lrr: 0.8", "params.yaml: runs.demo-scfs: unknown key 'optimizer.lrr'"),
        (
            "method: dino}",
            "method: moco}",
            "params.yaml: runs.demo-dino: method = 'moco': Input should be 'scfs', 'dino'",
        ),
        ("runs: [demo-dino]", "runs: [demo-dyno]", "tables.main: run = 'demo-dyno': not among"),
        (
            "runs:\n",
            "runs:\n  x: {weights: 'a{b}.pth', format: torchvision, backbone: resnet18}\n",
            "runs.x.weights = 'a{b}.pth': braces, which",
        ),
        ("study: demo", "study: [demo", "Config file is not valid JSON or YAML"),  # Snakemake reads it first
    ],
)
def test_a_mistake_in_the_study_is_one_line(folder: Path, old: str, new: str, line: str) -> None:
    replace(folder / "params.yaml", old, new)
    said = snakemake(folder, fails=True)
    assert sum(line in text for text in said.splitlines()) == 1
    assert "Traceback" not in said


def test_settings_that_the_commands_would_not_see_are_refused(folder: Path) -> None:
    said = snakemake(folder, "--config", "torch_threads=2", fails=True)
    assert "params.yaml: the commands read this file alone" in said


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{old!r} is no longer in {file.name}"
    lose(file)
    file.write_text(text.replace(old, new, 1))


def lose(file: Path) -> None:
    """Take a file away, until the fixture `folder` puts it back with its time."""
    kept = file.with_name(f"{file.name}.kept")
    file.unlink() if kept.exists() else file.rename(kept)
