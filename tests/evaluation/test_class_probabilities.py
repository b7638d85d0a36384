"""Fig. 1 by hand: a fake encoder whose maps are mean colours, a classifier of three classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scfs import paths
from scfs.config.evaluation import ClassProbabilities
from scfs.config.pretrain import Views
from scfs.data.decoding import decode
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation.class_probabilities import classify, drawn_crops, evaluate
from scfs.evaluation.features import FrozenEncoder
from scfs.views.augmentation import augmentation_parameters
from scfs.views.images import normalize

WEIGHT, BIAS = np.array([[2.0, -1, 0], [0, 1.5, -1], [-1, 0, 1]]), np.array([0.1, -0.2, 0.3])
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PROTOCOL = ClassProbabilities(
    kind="class_probabilities", dataset="colours", resize=36, crop=32, crops=3, local_size=16, figure_images=2
)


class MeanColours(nn.Module):
    """layer4 is the mean colour of each quarter, (B, 3, 2, 2)."""

    name, channels = "narrow_resnet18", {"layer4": 3}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"layer4": F.avg_pool2d(images, images.shape[-1] // 2)}


@pytest.fixture
def fake() -> FrozenEncoder:
    classifier = nn.Linear(3, 3)
    classifier.load_state_dict({"weight": torch.from_numpy(WEIGHT), "bias": torch.from_numpy(BIAS)})
    classes = ("blue", "green", "red")
    return FrozenEncoder(MeanColours(), torch.device("cpu"), 0, classifier, classes)  # type: ignore[arg-type]


def softmax(feature: np.ndarray) -> np.ndarray:
    scores = np.exp(WEIGHT @ feature + BIAS)
    return np.asarray(scores / scores.sum())


def painted(quarters: list[tuple[int, int, int]], size: int) -> np.ndarray:
    """A square image of four plain quarters, in reading order."""
    half = size // 2
    image = np.zeros((size, size, 3), np.uint8)
    for index, colour in enumerate(quarters):
        top, left = divmod(index, 2)
        image[top * half : (top + 1) * half, left * half : (left + 1) * half] = colour
    return image


def test_probabilities_by_hand(fake: FrozenEncoder) -> None:
    view = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (90, 90, 90)]
    crops = [[(250, 0, 0)] * 4, [(0, 0, 250)] * 4, [(0, 250, 0)] * 4]
    label = 1
    assert fake.classifier is not None
    found = classify(
        fake,
        fake.classifier,
        torch.from_numpy(painted(view, 8))[None],
        torch.from_numpy(np.stack([painted(crop, 4) for crop in crops]))[None],
        torch.tensor([label]),
    )
    quarters = [(np.array(colour) / 255 - MEAN) / STD for colour in view]
    features = [(np.array(crop[0]) / 255 - MEAN) / STD for crop in crops]
    worst = int(np.argmin([softmax(feature)[label] for feature in features]))
    query = features[worst]
    A = [q @ query / np.linalg.norm(q) / np.linalg.norm(query) for q in quarters]  # Eq. 6
    searched = np.mean([a * q for a, q in zip(A, quarters, strict=True)], axis=0)  # Eq. 7, pooled
    expected = [softmax(np.mean(quarters, axis=0)), softmax(query), softmax(searched)]
    np.testing.assert_allclose(found["probabilities"][0], expected, atol=1e-5)
    np.testing.assert_allclose(found["attention"][0].ravel(), A, atol=1e-5)
    np.testing.assert_array_equal(found["crops"][0], painted(crops[worst], 4))
    assert len({tuple(np.round(each, 3)) for each in expected}) == 3


def test_crops_are_those_that_pretraining_draws() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    views = Views(local_number=5, local_size=16, local_scale=(0.2, 0.3))
    crops = drawn_crops(image, 7, 3, views)
    assert crops.shape == (5, 16, 16, 3) and len(np.unique(crops, axis=0)) == 5
    np.testing.assert_array_equal(crops, drawn_crops(image, 7, 3, views))
    assert not np.array_equal(crops, drawn_crops(image, 8, 3, views))
    plain = views.model_copy(update={"jitter": 0.0, "grey": 0.0, "blur": (0.0, 0.0, 0.0), "flip": 0.0})
    drawn = augmentation_parameters(3, 0, [7], [(60, 50)], plain)[0, 2:]
    for crop, row in zip(drawn_crops(image, 7, 3, plain), drawn, strict=True):
        inside = image[row["top"] : row["top"] + row["height"], row["left"] : row["left"] + row["width"]]
        assert np.abs(crop.mean((0, 1)) - inside.mean((0, 1))).max() < 4


def test_values_are_means_over_the_split(fake: FrozenEncoder, workplace: Path) -> None:
    measured = evaluate(PROTOCOL, fake)
    images = open_split(paths.manifest("colours"), "val")
    labels = images.require_labels()
    classified = []
    for row in range(len(images)):
        image = decode(images.read(row), "image")
        crops = drawn_crops(image, row, 0, Views(local_number=3, local_size=16))
        features = [normalize(torch.from_numpy(crop)[None]).mean((0, 2, 3)).double().numpy() for crop in crops]
        classified.append(min((softmax(feature) for feature in features), key=lambda p: p[labels[row]]))
    chances = np.stack(classified)
    expected = 100 * chances[np.arange(len(labels)), labels].mean()
    assert measured.values["probability_over_augmented"] == pytest.approx(expected, rel=1e-4)
    assert measured.values["top1_over_augmented"] == pytest.approx(100 * (chances.argmax(1) == labels).mean())
    values = measured.values
    assert set(values) == set(PROTOCOL.values())
    assert values["probability_original"] > values["probability_over_augmented"]
    arrays = measured.arrays
    assert {name: array.shape for name, array in arrays.items()} == {
        "rows": (2,),
        "views": (2, 32, 32, 3),
        "crops": (2, 16, 16, 3),
        "attention": (2, 2, 2),
        "top_classes": (2, 3, 3),
        "top_probabilities": (2, 3, 3),
        "true_classes": (2,),
    }
    assert (np.diff(arrays["top_probabilities"], axis=2) <= 0).all()
    np.testing.assert_allclose(arrays["top_probabilities"].sum(2), 1, atol=1e-5)  # there are only three classes
    assert arrays["true_classes"].tolist() == [images.classes[labels[row]] for row in arrays["rows"]]


def test_a_run_without_a_classifier_is_one_line(fake: FrozenEncoder, workplace: Path) -> None:
    without = FrozenEncoder(fake.backbone, fake.device)
    with pytest.raises(ScfsError, match="the run has no classifier; allowed: runs of the method supervised"):
        evaluate(PROTOCOL, without)


def test_a_classifier_of_others_has_no_names_and_is_taken_by_its_number(fake: FrozenEncoder, workplace: Path) -> None:
    assert fake.classifier is not None
    nameless = FrozenEncoder(fake.backbone, fake.device, 0, fake.classifier)
    assert evaluate(PROTOCOL, nameless).values == evaluate(PROTOCOL, fake).values
    larger = FrozenEncoder(fake.backbone, fake.device, 0, nn.Linear(3, 5))
    with pytest.raises(ScfsError, match="has 3 classes, but the weights classify 5"):
        evaluate(PROTOCOL, larger)
