"""ImageNet-1k (ILSVRC 2012; Russakovsky et al., 2015), and the subsets that a list of classes takes from it.

Archives, as the development kit's readme describes them:
* `train`, ILSVRC2012_img_train.tar: a tar for each class, named by its WordNet id, with n01440764_10026.JPEG ...
* `val`, ILSVRC2012_img_val.tar: ILSVRC2012_val_00000001.JPEG ... without folders;
* `devkit`, ILSVRC2012_devkit_t12.tar.gz: classes in meta.mat; in the ground truth, line i is the ILSVRC2012_ID of
  validation image i.

Files are as published: one is a PNG and some are CMYK JPEGs in spite of their names' ending.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from scfs.data.archives.members import members
from scfs.data.official.parsers.label_files import LabelFile, number_within, read_label_files
from scfs.data.official.parsers.mat_files import read_structs
from scfs.data.official.parsers.records import Parsed, Record
from scfs.errors import ScfsError

META = "ILSVRC2012_devkit_t12/data/meta.mat"
GROUND_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
WORDNET_ID = re.compile(r"n\d{8}")
TRAIN_NAME = re.compile(r"(?P<wnid>n\d{8})/(?P=wnid)_\d+\.JPEG")
VAL_NAME = re.compile(r"ILSVRC2012_val_(?P<number>\d{8})\.JPEG")


def parse(archives: Mapping[str, Path], names: Sequence[str] | None = None) -> Parsed:
    """Return the WordNet ids, sorted, and images of the splits `train` and `val`, as `<WordNet id>/<file>`.

    Args:
        archives: by role; `class_list`, where it is there, names the classes to take, as ImageNet-100's does.
        names: WordNet ids of a subset; None: all.

    Raises:
        ScfsError: the development kit is not as expected; a name is not among its classes, or appears twice; an image
            has another name than described, another class or no label; or one is missing.
    """
    if "class_list" in archives:
        names = archives["class_list"].read_text(encoding="utf-8").split()
    files = read_label_files(archives["devkit"], [META, GROUND_TRUTH])
    wnids = _wordnet_ids(files[META])
    truth = _ground_truth(files[GROUND_TRUTH], wnids)
    classes = _chosen(wnids, names, files[META].source)
    labels = {wnid: label for label, wnid in enumerate(classes)}
    return classes, chain(_train(archives["train"], labels, set(wnids.values())), _val(archives["val"], labels, truth))


def _wordnet_ids(meta: LabelFile) -> dict[int, str]:
    """Return WordNet ids by ILSVRC2012_ID, for the synsets that are classes: they have no children."""
    found: dict[int, str] = {}
    for place, synset in read_structs(meta, "synsets", ("ILSVRC2012_ID", "WNID", "num_children")):
        number = number_within(synset["ILSVRC2012_ID"], 1, 99_999, place)
        wnid = synset["WNID"]
        if not (isinstance(wnid, str) and WORDNET_ID.fullmatch(wnid)):
            raise ScfsError(f"{place}: {wnid!r} is not a WordNet id")
        if synset["num_children"] == 0:
            if number in found or wnid in found.values():
                raise ScfsError(f"{place}: class {number}, {wnid}: appears twice")
            found[number] = wnid
    if not found:
        raise ScfsError(f"{meta.source}: no classes in it")
    return found


def _ground_truth(file: LabelFile, wnids: Mapping[int, str]) -> list[str]:
    """List the WordNet ids of the validation images, by number."""
    truth = []
    for place, (text,) in file.rows(1):
        number = number_within(text, 1, max(wnids), place)
        if number not in wnids:
            raise ScfsError(f"{place}: {number} is not a class of the development kit")
        truth.append(wnids[number])
    return truth


def _chosen(wnids: Mapping[int, str], names: Sequence[str] | None, source: str) -> tuple[str, ...]:
    every = tuple(sorted(wnids.values()))
    if names is None:
        return every
    for name in names:
        if name not in every:
            raise ScfsError(f"class list: {name!r} is not among the {len(every)} classes of {source}")
    if len(set(names)) < len(names) or not names:
        raise ScfsError(f"class list: {len(names)} names, {len(set(names))} different: at least one, and none twice")
    return tuple(sorted(names))


def _train(archive: Path, labels: Mapping[str, int], every: set[str]) -> Iterator[Record]:
    left = set(labels)
    for member in members(archive, nested=True):
        match = TRAIN_NAME.fullmatch(member.name)
        if match is None or match["wnid"] not in every:
            raise ScfsError(f"{archive}: {member.name}: not an image of one of the {len(every)} classes")
        wnid = match["wnid"]
        if wnid in labels:
            left.discard(wnid)
            yield Record("train", member.name, labels[wnid], member)
    if left:
        raise ScfsError(f"{archive}: no images of {len(left)} of the {len(labels)} classes, the first is {min(left)}")


def _val(archive: Path, labels: Mapping[str, int], truth: Sequence[str]) -> Iterator[Record]:
    left = set(range(1, len(truth) + 1))
    for member in members(archive):
        match = VAL_NAME.fullmatch(member.name)
        if match is None or int(match["number"]) not in left:
            raise ScfsError(f"{archive}: {member.name}: not among the {len(truth)} validation images with a label")
        number = int(match["number"])
        left.discard(number)
        wnid = truth[number - 1]
        if wnid in labels:
            yield Record("val", f"{wnid}/{member.name}", labels[wnid], member)
    if left:
        first = f"ILSVRC2012_val_{min(left):08d}.JPEG"
        raise ScfsError(f"{archive}: {len(left)} of the {len(truth)} labelled images are missing, the first is {first}")
