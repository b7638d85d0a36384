"""The statistics of a data set come back as they were written."""

import json
from pathlib import Path

import numpy as np
import pytest

from scfs.errors import ScfsError
from scfs.io.dataset_stats import ClassCounts, DatasetStats, EqualImages, Range, Sample, SharedImages, SplitStats


def split(name: str, classes: ClassCounts | None, *samples: Sample) -> SplitStats:
    return SplitStats(
        split=name,
        images=9,
        digest="ab" * 32,
        left_out=1,
        classes=classes,
        objects=None,
        width=Range(least=1, median=2.5, greatest=4),
        height=Range(least=3, median=3.0, greatest=3),
        duplicates=EqualImages(number=1, pairs=(("a.png", "b.png"),)),
        samples=samples,
    )


@pytest.fixture
def stats() -> DatasetStats:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    labelled = split(
        "train", ClassCounts(names=("cat", "dog"), counts=(4, 5)), Sample(pixels, "dog"), Sample(pixels + 1, "cat")
    )
    boxed = split("val", None, Sample(pixels, boxes=np.array([[0, 0, 1, 2]], np.float32)))
    shared = SharedImages(splits=("train", "val"), number=0, pairs=())
    return DatasetStats(dataset="mine", identity="0" * 16, stage_version=1, splits=(labelled, boxed), between=(shared,))


def test_what_is_written_is_read(stats: DatasetStats, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    stats.write(path)
    found = DatasetStats.read(path)
    assert found.model_dump() == stats.model_dump() and "samples" not in json.loads(path.read_text())["splits"][0]
    for one, other in zip(found.splits, stats.splits, strict=True):
        assert [sample.name for sample in one.samples] == [sample.name for sample in other.samples]
        for sample, written in zip(one.samples, other.samples, strict=True):
            assert np.array_equal(sample.pixels, written.pixels)
            assert (sample.boxes is None) == (written.boxes is None)
    assert found.splits[1].samples[0].boxes.tolist() == [[0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"between": None}, "between: Input should be a valid tuple"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"identity": 7}, "identity: Input should be a valid string"),
    ],
)
def test_another_content_is_one_line_that_names_file_key_and_problem(
    stats: DatasetStats, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    path = tmp_path / "mine.json"
    stats.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ScfsError, match=rf"mine\.json or mine\.npz: not what the stage inspect writes: {told}$"):
        DatasetStats.read(path)
