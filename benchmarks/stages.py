"""Where a study's wall time goes, by rule, and how much of it is start-up: `python -m benchmarks.stages [FOLDER]`.

From what Snakemake keeps of each job in the folder in which the study has run.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from scfs.errors import ScfsError
from scfs.io.progress import track

STARTS = {
    "pretrain": "scfs.training.pretrain",
    "evaluate": "scfs.evaluation.run",
    "evaluate_arrays": "scfs.evaluation.run",
    "tune": "scfs.evaluation.finetune.job",
    "finetune": "scfs.evaluation.finetune.stage",
    "detect": "scfs.detection.stage",
    "convert": "scfs.weights.export",
    "convert_pkl": "scfs.weights.export",
    "convert_pth": "scfs.weights.export",
    "import_weights": "scfs.weights.import_weights",
    "import_file": "scfs.weights.import_weights",
}
"""Module that a rule's process imports first; the other rules import no torch."""
LIGHT = "scfs.cli.stages"


class RuleRun(NamedTuple):
    """One execution of a rule; seconds since the epoch."""

    rule: str
    started: float
    ended: float


def jobs(folder: Path) -> list[RuleRun]:
    """Return the jobs that made the files of a folder, from the record that Snakemake keeps of each file."""
    records = [json.loads(path.read_text()) for path in (folder / ".snakemake/metadata").glob("*") if path.is_file()]
    found: dict[tuple[str, str], RuleRun] = {}
    for record in filter(lambda record: record["endtime"], records):
        job = RuleRun(record["rule"], record["starttime"], record["endtime"])
        key = record["rule"], str(record["log"])
        if key not in found or job.started > found[key].started:
            found[key] = job
    return list(found.values())


def start_up(module: str, tries: int = 3) -> float:
    """Seconds until a process of this environment has imported a module and ends."""
    seconds = []
    for _ in range(tries):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def table(found: list[RuleRun]) -> str:
    """Markdown: a rule per line, the longest first."""
    whole = max(job.ended for job in found) - min(job.started for job in found)
    modules = {STARTS.get(job.rule, LIGHT) for job in found}
    starts = {module: start_up(module) for module in track(sorted(modules), "start-up", unit="module")}
    lines = ["| rule | jobs | seconds, all together | of these start-up |", "|---|---|---|---|"]
    rules = {job.rule for job in found}
    spent = {rule: sum(job.ended - job.started for job in found if job.rule == rule) for rule in rules}
    begun = 0.0
    for rule in sorted(rules, key=lambda rule: -spent[rule]):
        number = sum(job.rule == rule for job in found)
        module = STARTS.get(rule, LIGHT)
        begun += number * starts[module]
        lines.append(f"| {rule} | {number} | {spent[rule]:.0f} | {number * starts[module]:.0f} |")
    lines.append(f"| all | {len(found)} | {sum(spent.values()):.0f}, in {whole:.0f} of wall time | {begun:.0f} |")
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Print the table.

    Raises:
        ScfsError: no study has run in the folder.
    """
    found = jobs(folder)
    if not found:
        raise ScfsError(f"{folder}/.snakemake/metadata: no finished job; run the study there first (make demo)")
    print(table(found))


if __name__ == "__main__":
    try:
        main(Path(*sys.argv[1:2]))
    except ScfsError as error:
        sys.exit(f"benchmarks.stages: {error}")
