"""Where everything stands, relative to the working folder. The workflow, DVC and the commands all ask here."""

from pathlib import Path


def data_folder(dataset: str) -> Path:
    """Folder of a prepared data set."""
    return Path("data") / dataset


def archives() -> Path:
    """Official archives, in a folder for each set of the catalogue."""
    return Path("datasets") / "archives"


def manifest(dataset: str) -> Path:
    """Table of a data set's images: the declared output of `prepare`."""
    return data_folder(dataset) / "manifest.parquet"


def inspection(dataset: str) -> Path:
    """Numbers of a data set as the stage `inspect` counts them; its contact sheet stands beside them (.npz)."""
    return Path("results") / "data" / f"{dataset}.json"


def annotations(dataset: str, split: str) -> Path:
    """COCO JSON with the boxes and masks of a split."""
    return data_folder(dataset) / "annotations" / f"{split}.json"


def run_folder(run: str, identity: str) -> Path:
    """Resumable state of a pre-training: not a declared output, so that neither tool deletes it before a rerun."""
    return Path("runs") / f"{run}-{identity}"


def job_folder(name: str, identity: str) -> Path:
    """Folder of the job of a run or evaluation: its lock, its logs, the code that it runs."""
    return Path("runs") / "jobs" / f"{name}-{identity}"


def counts(identity: str) -> Path:
    """Operations and bytes of a pre-training, counted once."""
    return Path("runs") / "jobs" / "counts" / f"{identity}.json"


def weights(run: str) -> Path:
    """Exported weights of a run."""
    return Path("checkpoints") / f"{run}.safetensors"


def curve(run: str) -> Path:
    """Training curves of a run, for `dvc plots` and for spreadsheets."""
    return Path("results") / "runs" / run / "curve.csv"


def converted(run: str, file: str) -> Path:
    """A run's backbone in another library's format; scfs.config.weight_formats.converted_path names the file."""
    return Path("weights") / run / file


def downloads() -> Path:
    """Files of public weights as they were fetched or put there by hand."""
    return Path("weights") / "downloads"


def result(run: str, evaluation: str) -> Path:
    """Result of one evaluation (or `pretrain`) of a run."""
    return Path("results") / "runs" / run / f"{evaluation}.json"


def part(run: str, evaluation: str, name: str) -> Path:
    """Result of one of the trainings that an evaluation is made of: a trial, a grid point."""
    return Path("results") / "runs" / run / evaluation / f"{name}.json"


def study_folder(study: str) -> Path:
    """Tables, figures and the report of a study."""
    return Path("results") / "studies" / study


def published(study: str) -> Path:
    """Chosen results of a study, in git."""
    return Path("results") / "published" / study


def table(study: str, name: str) -> Path:
    """A table as JSON; the same table as Markdown stands beside it (.md)."""
    return study_folder(study) / "tables" / f"{name}.json"


def metrics(study: str, name: str) -> Path:
    """A table's numbers alone, for `dvc metrics`."""
    return study_folder(study) / "tables" / f"{name}.metrics.json"


def figure(study: str, name: str, ending: str) -> Path:
    """A figure; the ending is the format of its kind, svg or png."""
    return study_folder(study) / "figures" / f"{name}.{ending}"


def report(study: str) -> Path:
    """The study's report."""
    return study_folder(study) / "report.html"
