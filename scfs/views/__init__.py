"""Views of an image: the augmentation table, crops, colour, and the batches made of them."""
