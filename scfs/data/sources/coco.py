"""The source `coco`: images with boxes and masks in COCO's format, which stay where they are."""

from dataclasses import replace
from pathlib import Path

from scfs.config.data import Coco, CocoSplit
from scfs.data.manifest import BoxFile, ManifestSplit
from scfs.data.sources.box_checks import read_annotated_images, require_instances
from scfs.data.sources.coco_json import CocoJson, load_coco
from scfs.data.sources.coco_repair import repair_coco
from scfs.data.sources.registry import PREPARE
from scfs.data.sources.voc import json_file, write_annotated
from scfs.errors import ScfsError
from scfs.io.progress import log


@PREPARE.add("coco")
def prepare_coco(name: str, config: Coco, folder: Path) -> None:
    """Check annotations and images, and write the manifest.

    Annotations that had to be repaired are written to annotations/<split>.json.

    Raises:
        ScfsError: see `read_coco`.
    """
    write_annotated(folder, name, config, *read_coco(config))


def read_coco(config: Coco) -> tuple[list[ManifestSplit], dict[str, str]]:
    """Check annotations and images of every split: first all annotations, then the images, which take longest.

    Returns:
        Splits, and the text of repaired annotations by path within the prepared data set's folder.

    Raises:
        ScfsError: see `scfs.data.sources.coco_json.load_coco` and `read_annotated_images`; or the splits differ in
            their categories, or a split has no instance of any.
    """
    splits, texts = config.splits, dict[str, str]()
    files = {split: _checked(split, settings, texts) for split, settings in splits.items()}
    first = next(iter(files.values()))
    for file in files.values():
        if file.categories != first.categories:
            raise ScfsError(f"{file.path}: categories: not those of {first.path}: all splits must have the same")
    listed = []
    for split, file in files.items():
        folder = Path(splits[split].images).resolve()
        sizes = {image.file_name: (image.width, image.height) for image in file.images}
        rows, made = read_annotated_images(folder, sizes, file.path.name, config), json_file(split)
        boxes = BoxFile(made, file.digest, f"{file.path}") if made in texts else BoxFile(f"{file.path}", file.digest)
        listed.append(ManifestSplit(split, f"{folder}", rows, tuple(file.categories.values()), boxes=boxes))
    return listed, texts


def _checked(split: str, settings: CocoSplit, texts: dict[str, str]) -> CocoJson:
    path = Path(settings.annotations).parent.resolve() / Path(settings.annotations).name
    try:
        file = load_coco(path)
    except ScfsError:
        text, repairs = repair_coco(path)
        if not repairs:
            raise
        file = load_coco(path, text)
        texts[json_file(split)] = text
        for repair in repairs:
            log(f"warning: {path}: {repair}")
    counted = {one.category_id for one in file.annotations if not (one.iscrowd or one.difficult)}
    absent = [name for number, name in file.categories.items() if number not in counted]
    require_instances(f"{file.path}", split, absent, len(file.categories))
    if file.lines:
        number = f"{len(file.lines)} boxes of split {split} have no area, the first is of annotation {file.lines[0]}"
        log(f"warning: {file.path}: {number}; Detectron2 leaves them out of the training")
    return replace(file, annotations=[])  # train2017's do not stay in memory
