"""Random-resized-crop and flip without colour, on which classifiers are trained.

Crops are resized by the project's bicubic operation (scfs.views.images); torchvision's RandomResizedCrop is bilinear by
default.
"""

import numpy as np
import numpy.typing as npt

from scfs.config.pretrain import Views
from scfs.views.augmentation import augmentation_parameters
from scfs.views.images import Pixels, crop_resize


def crops(
    seed: int, epoch: int, rows: npt.NDArray[np.integer], sizes: npt.NDArray[np.integer], scale: tuple[float, float]
) -> npt.NDArray[np.void]:
    """Draw the crop box and the flip of images in an epoch.

    Args:
        seed: seed of all crops.
        epoch: pass over the images.
        rows: (B,) the images' rows.
        sizes: (B, 2) their heights and widths in pixels.
        scale: smallest and largest share of an image's area.

    Returns:
        (B,) rows of scfs.views.augmentation.PARAMETERS: what pre-training would draw for the first global view.
    """
    return augmentation_parameters(seed, epoch, rows, sizes, Views(global_scale=scale, local_number=0))[:, 0]


def crop_and_flip(image: Pixels, drawn: np.void, size: int) -> Pixels:
    """Crop an image (H, W, 3), resize to (size, size, 3) and mirror it if `drawn`, an element of `crops`, says so."""
    view = crop_resize(image, (drawn["top"], drawn["left"], drawn["height"], drawn["width"]), size)
    return view[:, ::-1] if drawn["flip"] else view
