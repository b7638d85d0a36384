"""Takes the place of `scfs` in tests of the workflow: writes each stage's outputs at once and notes what was asked."""

import os
import signal
import sys
import time
from pathlib import Path

from scfs import paths
from scfs.config.weight_formats import converted_path

STUDY = "demo"


def main(arguments: list[str]) -> None:
    assert arguments[0] == "--params" and arguments[2] == "--log", arguments
    log, stage, rest = Path(arguments[3]), arguments[4], arguments[5:]
    log.write_text("stand-in\n")
    with Path("logs/calls.txt").open("a") as calls:
        print(stage, *rest, file=calls)
    if stage == "pretrain" and os.environ.get("STAND_IN_SLOW"):
        train_until_interrupted(rest[1])
    for path in outputs(stage, rest):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{stage} {rest}\n")


def outputs(stage: str, rest: list[str]) -> list[Path]:
    if stage == "prepare":
        return [paths.manifest(rest[0])]
    if stage == "inspect":
        return [paths.inspection(rest[0]), paths.inspection(rest[0]).with_suffix(".npz")]
    if stage == "pretrain":
        result = paths.result(rest[1], "pretrain")
        return [paths.weights(rest[1]), result, result.with_suffix(".run.json"), paths.curve(rest[1])]
    if stage == "convert":
        return [converted_path(rest[1], rest[3])]
    if stage == "evaluate":
        result = paths.result(rest[2], rest[0])
        return [
            result,
            result.with_suffix(".run.json"),
            *([result.with_suffix(".npz")] if rest[0] == "attention" else []),
        ]
    if stage in ("tune", "detect"):
        result = paths.part(rest[3], rest[0], rest[1])
        return [result, result.with_suffix(".run.json"), *([result.with_suffix(".npz")] if stage == "detect" else [])]
    if stage in ("finetune", "average"):
        result = paths.result(rest[2], rest[0])
        return [result, result.with_suffix(".run.json"), *([result.with_suffix(".npz")] if stage == "average" else [])]
    if stage == "table":
        table = paths.table(STUDY, rest[0])
        return [table, table.with_suffix(".md"), paths.metrics(STUDY, rest[0])]
    return [
        paths.figure(STUDY, rest[0], "png" if rest[0] in ("attention", "detections") else "svg")
        if stage == "figure"
        else paths.report(STUDY)
    ]


def train_until_interrupted(run: str) -> None:
    """Do as a training does: at SIGINT or SIGTERM, save the state (which takes a while) and fail."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: asked.append(number))
    state = Path("runs") / run
    state.mkdir(parents=True, exist_ok=True)
    (state / "started").touch()
    while not asked:
        time.sleep(0.02)
    time.sleep(0.5)
    (state / "saved").touch()
    sys.exit(1)


main(sys.argv[1:])
