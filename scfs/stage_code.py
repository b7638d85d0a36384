"""Files of code that cheap stages depend on, and are made stale by."""

from pathlib import Path

EVERY_EVALUATION = [
    *(f"evaluation/{name}" for name in ("run", "features", "measurement")),
    *(f"data/{name}" for name in ("manifest", "parquet", "images", "annotations")),
    *(f"data/{name}" for name in ("scene_images", "scenes", "garments", "grey_png")),
    *(f"views/{name}" for name in ("images", "reading")),
    *(f"model/{name}" for name in ("backbones", "convolution", "recompute", "relu", "resnet", "unfolded", "vit")),
]
INSPECTION = [
    *("inspection", "manifest", "parquet", "images", "annotated", "annotations", "coco_json", "boxes"),
    *("scene_images", "scenes", "garments", "grey_png"),
    *("voc", "voc_xml", "listed", "folders", "probing"),
]
"""Modules of scfs/data."""
PROBE = ("probe", "sweep", "shares")
EVALUATION_KINDS = {
    "knn": ["evaluation/knn"],
    "layers": ["evaluation/layers", "evaluation/knn"],
    "linear_cached": [*(f"evaluation/{name}" for name in ("linear_cached", *PROBE)), "views/philox"],
    "linear": [
        *(f"evaluation/{name}" for name in ("linear", *PROBE)),
        *(f"views/{name}" for name in ("crops", "philox", "table")),
    ],
    "attention": ["evaluation/attention", "model/search"],
    "class_probabilities": [
        *("evaluation/class_probabilities", "model/search", "views/colour", "views/philox", "views/table"),
    ],
}


def modules_of(kind: str) -> list[Path]:
    """Modules that the number of an evaluation of this kind comes from."""
    return [Path(f"scfs/{module}.py") for module in [*EVERY_EVALUATION, *EVALUATION_KINDS[kind]]]


def inspection_modules() -> list[Path]:
    """Modules that the inspection of a data set comes from."""
    return [Path(f"scfs/data/{module}.py") for module in INSPECTION]


def report_modules() -> list[Path]:
    """Files that tables, figures and the report come from."""
    return sorted(path for path in Path("scfs/report").rglob("*") if path.suffix not in ("", ".pyc"))
