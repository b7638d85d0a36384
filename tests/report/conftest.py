"""Working folders with results written by hand."""

from pathlib import Path

import pytest
from fake_results import DETECTION, DETECTION_VALUES, STUDY, VALUES, FakeResults

from scfs.config.study import Study, parse_study


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeResults:
    """A working folder with the inspection of the data alone, and the means to fill it."""
    monkeypatch.chdir(tmp_path)
    return FakeResults(parse_study(STUDY, "fake.yaml"))


@pytest.fixture
def study(fake: FakeResults) -> Study:
    """The study with the results of all its runs."""
    for run, values in VALUES.items():
        fake.write(run, values)
    return fake.study


@pytest.fixture
def seeded(fake: FakeResults) -> Study:
    """The same with two seeds of DINO and SCFS and without random weights: rows that may be ranked."""
    study = parse_study(
        {
            **STUDY,
            "runs": {
                "dino-0": {"method": "dino"},
                "dino-1": {"method": "dino", "seed": 1},
                "scfs-0": {},
                "scfs-1": {"seed": 1},
            },
            "tables": {
                "main": {
                    **STUDY["tables"]["main"],
                    "rows": [
                        {"label": "DINO", "runs": ["dino-0", "dino-1"]},
                        {"label": "SCFS", "runs": ["scfs-0", "scfs-1"]},
                    ],
                }
            },
        },
        "seeded.yaml",
    )
    fake.study = study
    for run in study.runs:
        method, seed = run.split("-")
        shifted = {
            key: {name: value + 2 * int(seed) for name, value in values.items()}
            for key, values in VALUES[method].items()
        }
        fake.write(run, shifted)
    return study


@pytest.fixture
def detection(fake: FakeResults) -> Study:
    """A study of detection and fine-tuning with all its results."""
    fake.study = parse_study(DETECTION, "detection.yaml")
    for run in fake.study.runs:
        fake.pretrain(run)
    for run, evaluation in fake.study.pairs:
        fake.evaluation(run, evaluation, DETECTION_VALUES[evaluation])
        if fake.study.evaluate[evaluation].leaves_arrays:
            fake.detections(run, evaluation)
    return fake.study
