"""What holds for every set of labelled images."""

import pytest
from archive_packing import write
from archive_writers import SETS

from scfs.data.official import BOXES, LABELLED
from scfs.views.images import decode

TINY = [name for name in SETS if name in LABELLED]


def test_every_set_has_archives_in_the_tests():
    assert set(SETS) == {*LABELLED, *BOXES} - {"imagenet100"}
    assert LABELLED["imagenet100"] is LABELLED["imagenet"]


@pytest.mark.parametrize("name", TINY)
def test_records_are_complete_and_can_be_decoded(tmp_path, name):
    archives = write(SETS[name](), tmp_path)
    classes = LABELLED[name].classes(archives)
    assert len(set(classes)) == len(classes)
    seen = set()
    for record in LABELLED[name].records(archives):
        assert record.split in ("train", "val", "test")
        assert (record.split, record.path) not in seen
        seen.add((record.split, record.path))
        assert record.path.partition("/")[0] == classes[record.label].replace("/", "-")
        assert record.path.count("/") == 1
        assert (record.member is None) != (record.content is None)
        content = record.content if record.member is None else record.member.read()
        if record.member is not None:
            assert record.member.size == len(content)
        assert decode(content, record.path).shape[2] == 3
    assert {split for split, _ in seen} >= {"train"}


@pytest.mark.parametrize("name", TINY)
def test_the_same_archives_give_the_same_records(tmp_path, name):
    """Also when they were packed in another place."""
    first, second = (
        [(record.split, record.path, record.label, record.content) for record in LABELLED[name].records(archives)]
        for archives in (write(SETS[name](), tmp_path / place) for place in ("one", "two"))
    )
    assert first == second
