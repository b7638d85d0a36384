"""Scalars as DVCLive's files, in RUN FOLDER/dvclive."""

from pathlib import Path

from scfs.training.loggers.registry import LOGGERS


@LOGGERS.add("dvclive")
class DvcLive:
    """Writes a table per curve, and the latest values."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Go on at `first_step`: later points are dropped."""
        from dvclive import Live  # not above: the import takes a second

        class Files(Live):
            """DVCLive without DVC: by itself it makes a DVC repository of the git repository that it runs in."""

            def _init_dvc(self) -> None:
                self._exp_name = None

        files = folder / "dvclive"
        _drop_points(files, first_step)
        self._live = Files(str(files), resume=first_step > 0, report=None, save_dvc_exp=False, dvcyaml=None)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each name."""
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def close(self) -> None:
        """Write what is left."""
        self._live.end()


def _drop_points(folder: Path, first_step: int) -> None:
    """Drop points from `first_step` on, and what a killed process left half written: a last line, or a whole file."""
    for file in (folder / "plots" / "metrics").rglob("*.tsv"):
        lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if not lines:
            file.unlink()
            continue
        header, *points = lines
        column = header.rstrip("\n").split("\t").index("step")
        file.write_text(header + "".join(p for p in points if int(p.rstrip("\n").split("\t")[column]) < first_step))
