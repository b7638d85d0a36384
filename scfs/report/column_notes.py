"""What a reader must know of single columns of a table: how a detection's number came about."""

from scfs.config.detection import Detection
from scfs.config.shown import Table
from scfs.config.study import Study


def column_notes(study: Study, table: Table) -> list[str]:
    """Lines for the columns of detections that are means of several trials, or not the recipe's numbers.

    The standard deviation over trials is not shown beside the mean: ± stands for that over pre-training seeds alone.
    It can be had as a column of its own, such as box_ap_sd.
    """
    labels: dict[str, list[str]] = {}
    for column in table.columns:
        if not column.value.endswith("_sd"):
            labels.setdefault(column.evaluation, []).append(column.label)
    notes = []
    for evaluation, headings in labels.items():
        protocol = study.evaluate[evaluation]
        if not isinstance(protocol, Detection):
            continue
        columns, small = ", ".join(headings), protocol.small_machine
        if protocol.trials > 1:
            notes.append(
                f"{columns}: mean of {protocol.trials} trials of each run; their standard deviation is in the results "
                f"of {evaluation}."
            )
        if small is not None:
            notes.append(
                f"{columns}: small-machine settings, with fewer iterations ({small.iterations:,}), smaller images "
                f"({small.short_side} pixels) and fewer proposals than the recipe {protocol.recipe}: not its numbers."
            )
    return notes
