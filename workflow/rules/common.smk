# The study, checked, and what the rules ask of it.

import os
import re
import shlex
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from scfs import paths
from scfs.config import identity
from scfs.config.study import load_study
from scfs.errors import ScfsError
from scfs.report import paper

PARAMS = Path(os.path.relpath([*workflow.configfiles, "params.yaml"][0]))

try:
    study = load_study(PARAMS)
    paper.check(study, str(PARAMS))
    if config != yaml.safe_load(PARAMS.read_text()):
        raise ScfsError(f"{PARAMS}: the commands read this file alone, not --config and not a second --configfile")
except ScfsError as error:
    raise WorkflowError(str(error)) from None


def command(arguments: str) -> str:
    """Command line of a stage: the same study that this workflow reads, and the job's log file."""
    return f"scfs --params {shlex.quote(str(PARAMS))} --log {{log:q}} {arguments}"


def any_of(names) -> str:
    """Regular expression for exactly these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def source_folders(dataset: str) -> list[Path]:
    """Folders of images that a data set is made from, and their sub-folders.

    A file that is added to one of them, removed or renamed makes the manifest stale, as it changes the folder's time.
    Not so a file that is overwritten in place, or anything further down: `snakemake --forcerun prepare` then helps.
    """
    if study.data[dataset].source != "folder":
        return []
    # One that is missing is left to the command, which says so in one line.
    folders = [Path(folder) for folder in study.data[dataset].splits.values() if Path(folder).is_dir()]
    return [
        *folders,
        *(sub for folder in folders for sub in sorted(folder.iterdir()) if sub.is_dir()),
    ]


def of_kind(kind: str) -> list[str]:
    """Names of the study's evaluations of one kind."""
    return [name for name, protocol in study.evaluate.items() if protocol.kind == kind]


def results(evaluations, suffix: str = ".json") -> list[Path]:
    """Results of these evaluations for every run."""
    return [paths.result(run, name).with_suffix(suffix) for run in study.runs for name in evaluations]


def table_results(table: str) -> list[Path]:
    """Results that a table shows; the record of a run's training tells whether they are of its present weights."""
    runs = dict.fromkeys(run for row in study.tables[table].rows for run in row.runs)
    evaluations = dict.fromkeys(["pretrain", *(column.evaluation for column in study.tables[table].columns)])
    return [paths.result(run, evaluation) for run in runs for evaluation in evaluations]


def figures() -> list[str]:
    """Figures that the study has results for."""
    return [
        "curves",
        *(figure for figure in ("layers", "attention") if of_kind(figure)),
    ]


def figure_results(figure: str) -> list[Path]:
    """Results that a figure shows; see `table_results`."""
    shown = results(["pretrain", *(of_kind(figure) if figure != "curves" else [])])
    return [*shown, *results(of_kind(figure), ".npz")] if figure == "attention" else shown


EVERY_EVALUATION = [
    *(f"evaluation/{name}" for name in ("run", "features", "measurement")),
    *(f"data/{name}" for name in ("manifest", "images", "annotations")),
    *(f"data/{name}" for name in ("scene_images", "scenes", "garments", "grey_png")),
    *(f"views/{name}" for name in ("images", "reading")),
    "model/resnet",
]
EVALUATION_KINDS = {
    "knn": ["evaluation/knn"],
    "layers": ["evaluation/layers", "evaluation/knn"],
    "linear_cached": ["evaluation/linear_cached", "evaluation/probe", "views/philox"],
    "linear": ["evaluation/linear", "evaluation/probe", "views/philox", "views/table"],
    "attention": ["evaluation/attention", "model/search"],
}


def evaluation_modules(evaluation: str) -> list[str]:
    """Modules that one evaluation's number comes from."""
    own = EVALUATION_KINDS[study.evaluate[evaluation].kind]
    return [f"scfs/{module}.py" for module in [*EVERY_EVALUATION, *own]]


def report_modules() -> list[Path]:
    """Files that tables, figures and the report come from."""
    return sorted(path for path in Path("scfs/report").rglob("*") if path.suffix not in ("", ".pyc"))
