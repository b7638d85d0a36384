"""A study's three figures, each as a file of its own; the report embeds the same drawings."""

from pathlib import Path

from scfs.atomic import write_with
from scfs.config.study import Study
from scfs.report.attention_maps import draw_attention
from scfs.report.curves import draw_curves
from scfs.report.layer_bars import draw_layers


def curves(study: Study, out: Path) -> None:
    """Write the training curves of all runs as SVG: losses, data loss and teacher's entropy over ln K, learning rate.

    Raises:
        ScfsError: a run's pretrain.json is missing.
    """
    drawing = draw_curves(study)
    write_with(out, lambda file: file.write(drawing))


def layers(study: Study, out: Path) -> None:
    """Write the paper's Fig. 4 as SVG: k-NN accuracy on the pooled maps of single layers.

    Raises:
        ScfsError: a result is missing, or the study has no evaluation of the kind "layers".
    """
    drawing = draw_layers(study)
    write_with(out, lambda file: file.write(drawing))


def attention(study: Study, out: Path) -> None:
    """Write the paper's Fig. 3 as PNG: mean search attention maps of the runs on the same images.

    Raises:
        ScfsError: no run has maps, or the study has no evaluation of the kind "attention".
    """
    drawing = draw_attention(study)
    write_with(out, lambda file: file.write(drawing))
