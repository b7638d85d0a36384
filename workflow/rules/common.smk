# The study, checked, and what the rules ask of it.

import os
import re
import shlex
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.io import _IOFile

from scfs import paths
from scfs.config.study import load_study
from scfs.config.weight_formats import FORMATS, converted_path, export_formats
from scfs.errors import ScfsError
from scfs.pipeline import jobs
from scfs.report import paper
from scfs.pipeline.code_inputs import inspection_modules, modules_of, report_modules
from scfs.weights import catalogue

IMAGE = os.environ.get("SCFS_IMAGE", "docker/scfs.sif")
APPTAINER = any(method.name == "APPTAINER" for method in workflow.deployment_settings.deployment_method)
PARAMS = Path(os.path.relpath([*workflow.configfiles, "params.yaml"][0]))

BRACES = re.compile("[{}]").search

try:
    study = load_study(PARAMS)
    paper.check(study, str(PARAMS))
    catalogue.check(study)
    if config != yaml.safe_load(PARAMS.read_text()):
        raise ScfsError(f"{PARAMS}: the commands read this file alone, not --config and not a second --configfile")
    for key, value in study.flattened().items():
        if key.startswith(("data.", "runs.", "pretrain.")) and BRACES(str(value)):  # names of files, among others
            raise ScfsError(f"{PARAMS}: {key} = {value!r}: braces, which Snakemake takes for a wildcard: rename it")
except ScfsError as error:
    raise WorkflowError(str(error)) from None


async def unprotected(file: _IOFile) -> bool:
    return False


# Snakemake refuses to replace a read-only file, which a link to DVC's cache is. No stage writes into one: it puts a new file
# in its place.
_IOFile.protected = unprotected


def command(arguments: str) -> str:
    """Command line of a stage: the same study that this workflow reads, and the job's log file."""
    params = shlex.quote(str(PARAMS)).replace("{", "{{").replace("}", "}}")
    return f"scfs --params {params} --log {{log:q}} {arguments}"


def launched(arguments: str) -> str:
    """The same for a stage that may submit a job: by the settings that the profile, else the environment, names.

    With --sdm apptainer its processes run in the image as well, but the command outside, where sbatch is.
    """
    image = f"SCFS_LAUNCH_IMAGE={shlex.quote(IMAGE)} " if APPTAINER else ""
    return f"SCFS_LAUNCH={{resources.launch:q}} {image}{command(arguments)}"


def growing(megabytes: int):
    """Memory of a job: more with each attempt, where a profile says `retries`."""
    return lambda wildcards, attempt: megabytes * attempt


def any_of(names) -> str:
    """Regular expression for exactly these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def source_folders(dataset: str) -> list[Path]:
    """Folders of images that a data set is made from, and their sub-folders; files of annotations, lists of images.

    A file that is added to one of the folders, removed or renamed makes the manifest stale, as it changes the folder's
    time. Not so an image that is overwritten in place, or anything further down: `snakemake --forcerun prepare` then
    helps. What is missing is left to the command, which says so in one line.
    """
    paths_read = list(dict.fromkeys(study.data[dataset].inputs()))
    for path in filter(BRACES, map(str, paths_read)):
        raise WorkflowError(f"{PARAMS}: {path}: braces, which Snakemake takes for a wildcard: rename it")
    return paths_read


def results(evaluations_of, suffix: str = ".json") -> list[Path]:
    """Results of every run: those that `evaluations_of` names for it."""
    return [paths.result(run, name).with_suffix(suffix) for run in study.runs for name in evaluations_of(run)]


def every_result() -> list[Path]:
    """Results of all pre-trainings and evaluations of the study."""
    return results(lambda run: ["pretrain", *study.evaluations_of(run)])


def every_part() -> list[Path]:
    """Results of all trainings that evaluations are made of."""
    return [path for run, name in study.pairs for path in jobs.part_results(study, run, name)]


def training_inputs(wildcards) -> list[Path]:
    """What a training of an evaluation reads."""
    return list(jobs.training_inputs(study, wildcards.run, wildcards.evaluation))


def part_results(wildcards) -> list[Path]:
    """Results that an evaluation is made of."""
    return list(jobs.part_results(study, wildcards.run, wildcards.evaluation))


def evaluations_with(stage: str) -> list[str]:
    """Evaluations of the study whose work is done by the stage: evaluate, finetune or detect."""
    return [name for name, protocol in study.evaluate.items() if protocol.stage == stage]


def figures() -> list[Path]:
    """Figures of the study."""
    return [paths.figure(study.study, name, figure.format) for name, figure in study.figures.items()]


PREPARED_BY = {dataset: jobs.prepare(study, dataset).stage for dataset in study.data}
OWN_DATA, OFFICIAL_DATA, SUBSETS = (
    [dataset for dataset, stage in PREPARED_BY.items() if stage == rule]
    for rule in ("prepare", "prepare_official", "prepare_subset")
)
TRAINED = [run for run in study.runs if study.imported(run) is None]
FROM_WEIGHTS = [run for run in TRAINED if study.run(run).init]
FROM_RANDOM = [run for run in TRAINED if run not in FROM_WEIGHTS]
IMPORTED = {run: study.imported(run) for run in study.runs if study.imported(run)}
IMPORTED_FILES = [run for run, imported in IMPORTED.items() if imported.is_file]
IMPORTED_ENTRIES = [run for run in IMPORTED if run not in IMPORTED_FILES]
WITH_ARRAYS = [name for name in evaluations_with("evaluate") if study.evaluate[name].leaves_arrays]
