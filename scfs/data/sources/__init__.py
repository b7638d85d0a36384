"""Data sources: folders, tables, COCO's format and VOC devkits."""
