import shutil

import pytest
from archive_packing import taken, write
from archive_writers import AIRCRAFT_VARIANTS, aircraft
from torchvision.datasets import FGVCAircraft

from scfs.data.official.parsers import aircraft as official
from scfs.errors import ScfsError

DATA = "fgvc-aircraft-2013b/data"


def test_records_are_what_torchvision_reads(tmp_path):
    archives = write(aircraft(), tmp_path)
    shutil.unpack_archive(archives["images"], tmp_path, "gztar")
    found = taken(official.parse(archives)[1])
    for split, number in (("train", 2), ("val", 1), ("test", 3)):
        theirs = FGVCAircraft(tmp_path, split, "variant")
        assert official.parse(archives)[0] == tuple(theirs.classes)
        wanted = {path.rpartition("/")[2]: label for path, label in zip(theirs._image_files, theirs._labels)}
        ours = {path.rpartition("/")[2]: label for part, path, label, _ in found if part == split}
        assert ours == wanted
        assert len(ours) == number
    for _, path, _, content in found:
        assert content == (tmp_path / DATA / "images" / path.rpartition("/")[2]).read_bytes()


def test_records_by_hand(tmp_path):
    archives = write(aircraft(), tmp_path)
    assert official.parse(archives)[0] == AIRCRAFT_VARIANTS
    assert [row[:3] for row in taken(official.parse(archives)[1])] == [
        ("val", "F-A-18/0056978.jpg", 2),
        ("test", "F-A-18/0747566.jpg", 2),
        ("train", "707-320/1025794.jpg", 0),
        ("train", "F-16A-B/1340192.jpg", 1),
        ("test", "Model B200/1514522.jpg", 3),
        ("test", "Yak-42/2230159.jpg", 4),
    ]


@pytest.mark.parametrize(
    "name, content, line",
    [
        (
            "images_variant_val.txt",
            b"0056978 F/A-19\n",
            r"line 1 = '0056978 F/A-19': variant 'F/A-19' is not among the 5",
        ),
        ("images_variant_val.txt", b"0056978\n", r"images_variant_val\.txt: line 1 = '0056978': 2 fields are expected"),
        (
            "images_variant_val.txt",
            b"1025794 707-320\n",
            r"line 1 = '1025794 707-320': the image appears twice, first in split train",
        ),
        ("images_variant_val.txt", b"0056978 Yak-42\n" * 2, r"line 2 = '0056978 Yak-42': '0056978' appears twice"),
        ("images_variant_val.txt", b"0056979 Yak-42\n", r"images/0056978\.jpg: no label names this image"),
        (
            "images_variant_val.txt",
            b"0056978 Yak-42\n9 Yak-42\n",
            r"1 of the 7 images .* missing, the first is .*/9\.jpg$",
        ),
        ("images_variant_val.txt", None, rf"tar\.gz: no file {DATA}/images_variant_val\.txt in it"),
        (
            "variants.txt",
            b"707-320\nYak-42\n707-320\n",
            r"variants\.txt: classes '707-320' and '707-320' have the same",
        ),
        ("variants.txt", b"F-16A/B\nF-16A-B\n", r"variants\.txt: classes 'F-16A/B' and 'F-16A-B' have the same folder"),
        ("variants.txt", b"\n", r"variants\.txt: is empty"),
        ("variants.txt", None, rf"tar\.gz: no file {DATA}/variants\.txt in it"),
        ("images/0056978.jpg", None, rf"1 of the 6 images .* missing, the first is {DATA}/images/0056978\.jpg"),
        ("images/1.jpg", b"x", rf"{DATA}/images/1\.jpg: no label names this image"),
    ],
)
def test_labels_and_images_that_do_not_fit(tmp_path, name, content, line):
    archives = aircraft()
    if content is None:
        del archives["images"].members[f"{DATA}/{name}"]
    else:
        archives["images"].members[f"{DATA}/{name}"] = content
    with pytest.raises(ScfsError, match=line):
        list(official.parse(write(archives, tmp_path))[1])
