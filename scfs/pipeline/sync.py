"""The command `scfs sync`: when Snakemake or DVC has made or fetched a study's results, it tells the other one.

Snakemake goes by times and by its records under .snakemake, DVC by hashes and dvc.lock. Neither sees what the other
did, so each would do it again. What is stale for both stays stale. And where one of them cannot know that a result
belongs to the present settings, its opinion does not count:
* Snakemake without a record of a file, or with one of another file that DVC has replaced since, compares times alone;
* DVC does not watch folders of one's own.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterable
from pathlib import Path

from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.pipeline import jobs
from scfs.pipeline.dvc_file import dvc_path, render
from scfs.pipeline.jobs import Job

Jobs = dict[str, Job]
"""Jobs by the name that DVC has for them from the repository's root: STAGE@KEY, config/mini/dvc.yaml:STAGE@KEY."""

SHOWN = 4
"""Names that a message lists before it only counts."""


def sync(study: Study) -> str:
    """Make the two tools agree, and say so in one line.

    Raises:
        ScfsError: both have something to do, or the one that has nothing to do cannot know it: nothing was changed
            then. Or one of them failed.
    """
    _check_files(study)
    jobs = jobs_of(study)
    for_dvc, for_snakemake = stale_for_dvc(study, jobs), stale_for_snakemake(study, jobs)
    if for_dvc and for_snakemake:
        raise ScfsError(
            f"{study.path}: not finished: snakemake would run {_listed(for_snakemake)};"
            f" dvc repro would run {_listed(for_dvc)} and what follows from them"
        )
    if for_dvc:
        _tell_dvc(study, jobs, for_dvc)
    elif for_snakemake or not all(map(_has_records, jobs.values())):
        _refuse_changed_sources(study, for_snakemake.values())
        log(f"{study.path}: nothing to do for DVC: telling Snakemake")
        _tell_snakemake(study, jobs)
    return f"{study.path}: Snakemake and DVC agree: nothing to do in {len(jobs)} stages"


def jobs_of(study: Study) -> Jobs:
    """Return a study's jobs by DVC's names, those of the studies that it includes among them."""
    owners = {job.outputs + job.plots: name for other in study.included for name, job in jobs_of(other).items()}
    file = dvc_path(study)
    prefix = "" if file == Path("dvc.yaml") else f"{file}:"
    found = {}
    for job in jobs.jobs(study):
        name = f"{job.stage}@{job.key}" if job.key else job.stage
        found[owners.get(job.outputs + job.plots, prefix + name)] = job
    return found


def stale_for_dvc(study: Study, jobs: Jobs) -> Jobs:
    """Return the study's jobs whose hashes are not those of dvc.lock."""
    files = [str(dvc_path(one)) for one in _with_included(study)]
    status = json.loads(_run("dvc", "status", "--json", *files))
    return {name: job for name, job in jobs.items() if name in status}


def stale_for_snakemake(study: Study, jobs: Jobs) -> Jobs:
    """Return the study's jobs that Snakemake would run."""
    said = _snakemake(study, "--dry-run", "--printshellcmds")
    logs = {shlex.split(command)[3] for command in re.findall(r"Shell command: (?:SCFS_LAUNCH=\S* )?scfs (.*)", said)}
    if not logs and "Nothing to be done" not in said:
        raise ScfsError(f"snakemake --dry-run: names no command of scfs: {said[-200:]}")
    return {name: job for name, job in jobs.items() if job.log in logs}


def _tell_dvc(study: Study, jobs: Jobs, stale: Jobs) -> None:
    """Write the present hashes into dvc.lock, if Snakemake made these results and they are as it left them."""
    foreign = {name: job for name, job in stale.items() if not _made_by_snakemake(job)}
    if foreign:
        raise ScfsError(
            f"{study.path}: not known whether these results belong to the present settings, since Snakemake has no"
            f" record of them as they are: {_listed(foreign)}: dvc repro would run {_listed(stale)}"
        )
    log(f"{study.path}: nothing to do for Snakemake: telling DVC of {_listed(stale)}")
    _run("dvc", "commit", "--force", *stale)
    left = stale_for_dvc(study, jobs)
    if left:
        raise ScfsError(f"{study.path}: something changed meanwhile: dvc repro would run {_listed(left)}")
    _tell_snakemake(study, jobs)  # since DVC puts links to its cache in the files' places, with other times


def _tell_snakemake(study: Study, jobs: Jobs) -> None:
    """Let Snakemake date all results anew and note the present settings for them."""
    _snakemake(study, "--touch", "--forceall", "--quiet", "all")
    left = stale_for_snakemake(study, jobs)
    if left:
        raise ScfsError(f"{study.path}: something changed meanwhile: snakemake would run {_listed(left)}")


def _check_files(study: Study) -> None:
    """Raise unless DVC's files name the stages that the studies have now."""
    for one in _with_included(study):
        file = dvc_path(one)
        if not file.is_file() or file.read_text(encoding="utf-8") != render(one):
            raise ScfsError(f"{file}: not what {one.path} makes of it: run scfs --params {one.path} dvc-file")


def _with_included(study: Study) -> list[Study]:
    """Return the study and those that it includes, each once."""
    found = [study, *(inner for other in study.included for inner in _with_included(other))]
    return list({one.path: one for one in found}.values())


def _refuse_changed_sources(study: Study, stale: Iterable[Job]) -> None:
    """Raise if what a data set of one's own is made from has changed after its manifest: DVC does not see that."""
    for job in stale:
        for source in study.data[job.key].inputs() if job.stage == "prepare" else ():
            if source.stat().st_mtime > job.outputs[0].stat().st_mtime:
                raise ScfsError(
                    f"{study.path}: data.{job.key}: {source} has changed after {job.outputs[0]}, which DVC does not"
                    f" watch: run snakemake"
                )


def _made_by_snakemake(job: Job) -> bool:
    """Return True if every output is the file that Snakemake recorded: it notes the time of each as it leaves it."""
    for output in _outputs(job):
        record = _record(output)
        try:
            noted, found = json.loads(record.read_text())["endtime"], output.stat().st_mtime
        except (OSError, ValueError, KeyError):
            return False
        if noted is None or abs(noted - found) > 0.01:
            return False
    return True


def _has_records(job: Job) -> bool:
    """Return True if Snakemake will see a change of the job's settings: it has a record to compare them with."""
    return all(_record(output).is_file() for output in _outputs(job))


def _outputs(job: Job) -> tuple[Path, ...]:
    return job.outputs + job.metrics + job.plots


def _record(output: Path, longest: int = 254) -> Path:
    """Return the path of Snakemake's record of a file: its name in Base64, in folders where that is too long."""
    text = urlsafe_b64encode(str(output).encode()).decode()
    *folders, name = [text[start : start + longest] for start in range(0, len(text), longest)]
    return Path(".snakemake", "metadata", *(f"@{folder}" for folder in folders), name)


def _snakemake(study: Study, *arguments: str) -> str:
    """Run Snakemake with this study and return what it prints; the same makes a job stale whatever the profile says."""
    triggers = ["--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete"]
    configuration = [] if study.path == Path("params.yaml") else ["--configfile", str(study.path)]
    return _run("snakemake", "--cores", "1", *arguments, *triggers, *configuration)


def _run(program: str, *arguments: str) -> str:
    """Run a program and return what it prints.

    Raises:
        ScfsError: it is not there, or it failed: in its own words.
    """
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    found = shutil.which(program, path=places)
    if found is None:
        raise ScfsError(f"{program}: not found beside {sys.executable} and on the PATH")
    environment = {**os.environ, "PATH": places, "DVC_NO_ANALYTICS": "1"}
    run = subprocess.run([found, *arguments], env=environment, capture_output=True, text=True)
    if run.returncode:
        raise ScfsError(f"{program} {arguments[0] if program == 'dvc' else ''}: {_reason(run.stderr or run.stdout)}")
    return run.stdout if program == "dvc" else run.stdout + run.stderr


def _reason(said: str) -> str:
    """Return a program's words from the first line that names an error, or its last lines."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    start = next((place for place, line in enumerate(lines) if re.search(r"error|exception", line, re.I)), -3)
    return " ".join(lines[start:])[:400] or "failed without a word"


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(list(names)[:SHOWN]) + more
