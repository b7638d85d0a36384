"""Where images come from: folders, tables, COCO's format and VOC devkits."""
