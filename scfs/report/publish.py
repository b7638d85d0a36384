"""Chosen results of a study, for git: tables, figures, and the origin of every number."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scfs import paths
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.io.atomic import write_bytes, write_json, write_text
from scfs.report.results import PRETRAIN, read_result, read_stage_metadata
from scfs.report.tables import Table, build_table, render_markdown

PUBLISHED = ("git", "lock_sha256", "image_digest", "device", "precision", "torch", "finished", "seconds")
"""Metadata of an execution that are published; the host's name is not."""


def publish(study: Study, names: Sequence[str], out: Path) -> list[Path]:
    """Write tables and figures to `out`, both anew from the results.

    Each table comes as Markdown, and as JSON with the identities of every number and the metadata of every execution.

    Args:
        study: the study.
        names: names of tables and figures; none: all of them.
        out: folder to write to.

    Returns:
        The files that were written.

    Raises:
        ScfsError: a name is unknown, a result is missing or stale, or was made by code with uncommitted changes.
    """
    known = [*study.tables, *study.figures]
    for name in names:
        if name not in known:
            raise ScfsError(f"{study.path}: table or figure {name!r}: not among {known}")
    chosen = names or known
    tables = {name: _published(study, name) for name in chosen if name in study.tables}
    figures = {name: _drawn(study, name) for name in chosen if name in study.figures}
    written = []
    for name, table in tables.items():
        write_text(out / f"{name}.md", render_markdown(table) + "\n" + _origin(table))
        write_json(out / f"{name}.json", table)
        written += [out / f"{name}.md", out / f"{name}.json"]
    for name, drawing in figures.items():
        path = out / paths.figure(study.study, name, study.figures[name].format).name
        write_bytes(path, drawing)
        written.append(path)
    return written


def _drawn(study: Study, name: str) -> bytes:
    """Draw a figure of results that may be published."""
    figure = study.figures[name]
    for run in study.shown(figure):
        _executions(study, run, [figure.evaluation] if figure.evaluation else [])
    return figure.draw(study)


def _published(study: Study, name: str) -> Table:
    """Build a table with the settings of its runs and the metadata of its stages' executions."""
    table = build_table(study, name)
    identities = table["identities"].items()
    protocols = {column["evaluation"]: study.evaluate[column["evaluation"]] for column in table["columns"]}
    return {
        **table,
        "occasions": {run: _executions(study, run, identity["evaluations"]) for run, identity in identities},
        "settings": {run: read_result(study, run, PRETRAIN)["settings"] for run, _ in identities},
        "protocols": {key: protocol.model_dump(mode="json") for key, protocol in protocols.items()},
    }


def _executions(study: Study, run: str, evaluations: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Choose the metadata of a run's executions, of its evaluations' and of their parts, by name."""
    found = {}
    for stage in (PRETRAIN, *evaluations):
        for name, metadata in read_stage_metadata(study, run, stage).items():
            revision = metadata.get("git")
            if not revision or str(revision).endswith("-dirty"):
                path = paths.result(run, name).with_suffix(".run.json")
                raise ScfsError(f"{path}: git = {revision!r}: only results of committed code can be published")
            found[name] = {key: metadata[key] for key in PUBLISHED if metadata.get(key) is not None}
    return found


def _origin(table: Table) -> str:
    """Write the lines below the table: code, environment, data and seeds. The JSON has all of it."""
    executions = [stage for stages in table["occasions"].values() for stage in stages.values()]
    evaluations = [one for run in table["identities"].values() for one in run["evaluations"].values()]
    digests = {
        f"{one['dataset']['name']}/{split}: {facts['digest']}"
        for one in evaluations
        for split, facts in one["dataset"]["splits"].items()
    }
    seeds = sorted({str(run["seed"]) for run in table["identities"].values()})
    lines = {
        "code": sorted({one["git"] for one in executions}),
        "environment (SHA-256 of the lock)": sorted({one.get("lock_sha256", "–") for one in executions}),
        "data": sorted(digests),
        "pre-training seeds": [", ".join(seeds)],
    }
    described = "\n".join(f"* {what}: {'; '.join(values)}" for what, values in lines.items())
    return f"{described}\n* settings, protocols and identities of every number: `{table['table']}.json`\n"
