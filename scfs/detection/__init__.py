"""Object detection and instance segmentation with Detectron2, which no other package of scfs imports."""
