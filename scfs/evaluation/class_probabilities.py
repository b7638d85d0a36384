"""Class probabilities of an image, of an over-augmented crop of it, and of what the crop finds in it (Fig. 1).

The crop's pooled layer4 searches the image's layer4 (Eq. 6); the searched map (Eq. 7) is pooled and classified.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from scfs import paths
from scfs.config.evaluation import ClassProbabilities
from scfs.config.pretrain import Views
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation.features import FrozenEncoder, batches_of, clean_view, evenly_spaced, joined, shown_batches
from scfs.evaluation.result import EvaluationResult, evaluates
from scfs.model.backbones.resnet import pooled
from scfs.model.search import attention_map, searched_features
from scfs.runtime import collectives
from scfs.views.augmentation import GLOBAL_NUMBER, augmentation_parameters
from scfs.views.colour import augment
from scfs.views.images import Pixels, crop_resize

SAMPLES = ("original", "over_augmented", "searched")
TOP = 5
"""Classes that the figure shows of each sample."""


Classified = dict[str, np.ndarray]
"""Arrays of B images: `views` (B, S, S, 3) uint8; `crops`, the over-augmented one of each image (B, s, s, 3) uint8;
`attention` A of the crop's feature on the image's map (B, H, W) float32; `probabilities` of the classes for each of
`SAMPLES`, (B, 3, K) float32."""


def drawn_crops(image: Pixels, row: int, seed: int, views: Views) -> Pixels:
    """Make the local crops of an image as pre-training draws and colours them, (N, s, s, 3)."""
    parameters = augmentation_parameters(seed, 0, [row], [image.shape[:2]], views)[0, GLOBAL_NUMBER:]
    crops = np.empty((len(parameters), views.local_size, views.local_size, 3), np.uint8)
    for crop, drawn in zip(crops, parameters, strict=True):
        box = int(drawn["top"]), int(drawn["left"]), int(drawn["height"]), int(drawn["width"])
        crop_resize(image, box, views.local_size, crop)
        augment(crop, drawn)
    return crops


def classify(encoder: FrozenEncoder, classifier: nn.Linear, views: Tensor, crops: Tensor, labels: Tensor) -> Classified:
    """Classify images (B, S, S, 3), the worst of their crops (B, N, s, s, 3) by the labels (B,), and what it finds."""
    each = torch.arange(len(views))

    def probabilities(features: Tensor) -> Tensor:
        return classifier(features).softmax(-1)

    with torch.no_grad():
        layer4 = encoder.maps(views)["layer4"]
        of_crops = encoder.features(crops.flatten(0, 1), ["layer4"])["layer4"].unflatten(0, crops.shape[:2])  # B, N, C
        # The first of equal ones. On the CPU, as the indices are.
        worst = probabilities(of_crops).cpu()[each, :, labels].argmin(1)
        over_augmented = of_crops[each.to(of_crops.device), worst.to(of_crops.device)]
        A = attention_map(over_augmented[:, None], layer4)
        searched = pooled(searched_features(A, layer4))
        samples = [probabilities(features).cpu() for features in (pooled(layer4), over_augmented, searched)]
    shown = {"views": views, "crops": crops[each, worst], "attention": A[:, 0].cpu()}
    return {name: values.numpy() for name, values in (shown | {"probabilities": torch.stack(samples, 1)}).items()}


def classify_rows(
    protocol: ClassProbabilities, encoder: FrozenEncoder, images: ImageSet, batches: Sequence[np.ndarray]
) -> Iterator[Classified]:
    """Classify each batch of rows.

    Raises:
        ScfsError: the run has no classifier, a backbone whose classifier reads no pooled map, or other classes.
    """
    classifier = encoder.classifier
    if classifier is None:
        raise ScfsError("class_probabilities: the run has no classifier; allowed: runs of the method supervised")
    if encoder.has_cls:
        raise ScfsError(
            f"class_probabilities: backbone {encoder.backbone.name} classifies [CLS], and a search gives a map; "
            "allowed: ResNets"
        )
    number, known, where = len(images.classes), classifier.out_features, f"data set {images.name}, split {images.split}"
    if not encoder.classes and number != known:
        raise ScfsError(f"{where}: has {number} classes, but the weights classify {known}")
    # Others' classifiers have no names: as many outputs as classes are taken to be in the order of the sorted names,
    # which is ImageNet's custom.
    if encoder.classes and images.classes != encoder.classes:
        different = sorted(set(images.classes) ^ set(encoder.classes))
        raise ScfsError(
            f"{where}: must have the classes that the run was trained with, in their order: only one of the two has"
            f" {different[:5]}"
        )
    labels = torch.from_numpy(images.require_labels())
    views = Views(local_number=protocol.crops, local_size=protocol.local_size, local_scale=protocol.local_scale)
    draw = partial(drawn_crops, seed=protocol.seed, views=views)
    shown = shown_batches(images, batches, clean_view(protocol), encoder.workers, "class probabilities on")
    drawn = shown_batches(images, batches, draw, encoder.workers, "their crops on")
    for batch, of_images, of_crops in zip(batches, shown, drawn, strict=True):
        yield classify(encoder, classifier, of_images, of_crops, labels[batch])


@evaluates(ClassProbabilities)
def evaluate(protocol: ClassProbabilities, encoder: FrozenEncoder) -> EvaluationResult:
    """Classify every image of the test split.

    Values, in percent, for each of `SAMPLES`: `probability_...`, the mean probability of the image's class, and
    `top1_...`, how often it is the likeliest.
    """
    test = open_split(paths.manifest(protocol.dataset), protocol.test)
    labels = test.require_labels()
    batches = collectives.round_robin(batches_of(np.arange(len(test))))
    parts = classify_rows(protocol, encoder, test, batches)
    own = [_of_true_class(part["probabilities"], labels[rows]) for rows, part in zip(batches, parts, strict=True)]
    true, right = (each.mean(0) for each in np.concatenate(collectives.gather_round_robin(own), axis=1))
    values = {
        f"{name}_{sample}": float(100 * share)
        for name, shares in (("probability", true), ("top1", right))
        for sample, share in zip(SAMPLES, shares, strict=True)
    }
    return EvaluationResult(values=values, splits=(test,), arrays=_figure(protocol, encoder, test, labels))


def _of_true_class(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give the true class's probability, and 1 if it is the likeliest, else 0: (2, B, 3) float64, from (B, 3, K)."""
    true = probabilities[np.arange(len(labels)), :, labels]
    return np.stack([true, probabilities.argmax(2) == labels[:, None]], dtype=np.float64)


def _figure(
    protocol: ClassProbabilities, encoder: FrozenEncoder, images: ImageSet, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Make the figure's arrays for some images."""
    rows = evenly_spaced(images, protocol.figure_images)
    found = joined(classify_rows(protocol, encoder, images, batches_of(rows)))
    probabilities, classes = found.pop("probabilities"), np.array(images.classes)
    top = np.argsort(-probabilities, axis=2, kind="stable")[:, :, :TOP]
    likeliest = {"top_classes": classes[top], "top_probabilities": np.take_along_axis(probabilities, top, axis=2)}
    return {"rows": rows, **found, **likeliest, "true_classes": classes[labels[rows]]}
