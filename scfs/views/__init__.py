"""Views of an image: augmentation parameters, crops, colour, and the batches made of them."""
