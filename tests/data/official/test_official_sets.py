"""What holds for every set of labelled images."""

import pytest
from archive_packing import taken, write
from archive_writers import SETS

from scfs.config.official_sets import catalogue
from scfs.data.decoding import decode
from scfs.data.official.parsers import BOXES, LABELLED
from scfs.errors import ScfsError

TINY = [name for name in SETS if name in LABELLED]


def test_every_set_has_archives_in_the_tests():
    assert set(SETS) == {*LABELLED, *BOXES} - {"imagenet100"}
    assert LABELLED["imagenet100"] is LABELLED["imagenet"]


@pytest.mark.parametrize("name", SETS)
def test_roles_and_files_are_the_catalogues(name):
    wanted = {role: archive.file for role, archive in catalogue()[name].archives.items()}
    assert {role: archive.name for role, archive in SETS[name]().items()} == wanted


@pytest.mark.parametrize("name", TINY)
def test_records_are_complete_and_can_be_decoded(tmp_path, name):
    archives = write(SETS[name](), tmp_path)
    classes = LABELLED[name](archives)[0]
    assert len(set(classes)) == len(classes)
    seen = set()
    for record in LABELLED[name](archives)[1]:
        assert (record.split, record.path) not in seen
        seen.add((record.split, record.path))
        assert record.path.partition("/")[0] == classes[record.label].replace("/", "-")
        assert record.path.count("/") == 1
        content = record.read()
        if not isinstance(record.source, bytes):
            assert record.source.size == len(content)
        assert decode(content, record.path).shape[2] == 3
    assert {split for split, _ in seen} == set(catalogue()[name].splits)


@pytest.mark.parametrize("name", TINY)
def test_the_same_archives_give_the_same_records(tmp_path, name):
    """Also when they were packed in another place."""
    first, second = (
        [(record.split, record.path, record.label, record.read()) for record in LABELLED[name](archives)[1]]
        for archives in (write(SETS[name](), tmp_path / place) for place in ("one", "two"))
    )
    assert first == second


@pytest.mark.parametrize("name, role", [(name, role) for name in SETS for role in SETS[name]()])
def test_archives_that_are_cut_off(tmp_path, name, role):
    archives = write(SETS[name](), tmp_path)
    content = archives[role].read_bytes()
    archives[role].write_bytes(content[: len(content) // 10])
    with pytest.raises(ScfsError, match=f"{archives[role].name}: ") as error:
        if name in BOXES:
            for _, member in BOXES[name](archives):
                member.read()
        else:
            taken(LABELLED[name](archives)[1])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, role, member, before",
    [
        ("imagenet", "train", "n09999999.tar", 7),
        ("cub200", "images", "CUB_200_2011/images/001.Black_footed_Albatross/z.jpg", 5),
        ("cars", "train", "cars_train/99999.jpg", 4),
        ("aircraft", "images", "fgvc-aircraft-2013b/data/images/9.jpg", 6),
    ],
)
def test_records_come_while_the_archive_is_read(tmp_path, name, role, member, before):
    """Those before the archive's last member come, although that one is refused."""
    archives = SETS[name]()
    archives[role].members[member] = {"n09999999_1.JPEG": b"x"} if name == "imagenet" else b"x"
    records = LABELLED[name](write(archives, tmp_path))[1]
    assert len([next(records).path for _ in range(before)]) == before
    with pytest.raises(ScfsError, match=r"n09999999_1|z\.jpg|99999\.jpg|9\.jpg"):
        next(records)
