"""An evaluation: the mean length of the features."""

from typing import Literal

from scfs.config.protocol import Value, ViewProtocol, evaluation
from scfs.evaluation.result import EvaluationResult, evaluates


@evaluation
class FeatureLength(ViewProtocol):
    """Mean length of the features."""

    kind: Literal["feature_length"]
    factor: float = 2.0
    """Multiplies the length."""

    def values(self):
        return {"length": Value(digits=3, better="less"), "images": Value(digits=0, better=None)}

    def passes(self, images, part=False):
        return [(7 * images(self.test), self.crop)]


@evaluates(FeatureLength)
def feature_length(protocol, encoder):
    from scfs.data.opening import open_split
    from scfs.evaluation.features import FEATURE, clean_view, extract
    from scfs.paths import manifest

    images = open_split(manifest(protocol.dataset), protocol.test)
    features = extract(encoder, images, [FEATURE], clean_view(protocol))[FEATURE]
    length = protocol.factor * float(features.norm(dim=1).mean())
    return EvaluationResult(values={"length": length, "images": float(len(images))}, splits=(images,))
