"""k-NN on the pooled maps of single layers (the paper's Fig. 4)."""

from scfs.config.evaluation import Layers
from scfs.errors import ScfsError
from scfs.evaluation.features import FrozenEncoder
from scfs.evaluation.knn import vote_on_layers
from scfs.evaluation.measurement import Measurement


def measure(protocol: Layers, encoder: FrozenEncoder) -> Measurement:
    """Top-1 in percent at `report_k` for each layer, under the layer's name.

    Raises:
        ScfsError: the backbone has no such layer.
    """
    for layer in protocol.layers:
        if layer not in encoder.backbone.channels:
            allowed = sorted(encoder.backbone.channels)
            raise ScfsError(f"layers: {layer!r}: not among {allowed}, which backbone {encoder.backbone.name} has")
    accuracies, splits = vote_on_layers(protocol, encoder, protocol.layers)
    return Measurement(
        values={layer: accuracies[layer][protocol.report_k][0] for layer in protocol.layers}, splits=splits
    )
