"""Tiny archives with the inner layout and the odd members of the official ones, of every data set.

Each function gives the archives by role; a test may change their members before `write` puts them into a folder:

    archives = cub200()
    archives["images"].members["CUB_200_2011/classes.txt"] = b"..."
    paths = write(archives, tmp_path)
"""

import json
import struct

import numpy as np
from archive_packing import Archive, mat, picture, structs, text

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "

SYNSETS = (  # ILSVRC2012_ID, WNID, words, gloss, num_children, children, wordnet_height, num_train_images
    (1, "n02119789", "kit fox, Vulpes macrotis", "small grey fox", 0, np.zeros((0, 0)), 0, 3),
    (2, "n02100735", "English setter", "white with black spots", 0, np.zeros((0, 0)), 0, 2),
    (3, "n02105855", "Shetland sheepdog, Shetland", "a small sheepdog", 0, np.zeros((0, 0)), 0, 2),
    (4, "n00001740", "entity", "that which is perceived", 2, np.array([3, 5]), 19, 0),
    (5, "n02083346", "canine, canid", "fissiped mammals", 3, np.array([1, 2, 3]), 11, 0),
)
SYNSET_FIELDS = (
    "ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images",
)  # fmt: skip
DEVKIT = "ILSVRC2012_devkit_t12"


def imagenet():
    """Three classes, whose order by id is not that by WordNet id; a PNG and a CMYK JPEG under `.JPEG`."""
    train = {
        "n02119789": (10060, 7, 4), "n02105855": (2933, 11), "n02100735": (8211, 36),
    }  # fmt: skip
    special = {"n02105855_2933": ("PNG", "RGB"), "n02100735_36": ("JPEG", "CMYK"), "n02119789_4": ("JPEG", "L")}
    inner = {}
    for wnid, numbers in train.items():
        names = [f"{wnid}_{number}" for number in numbers]
        inner[f"{wnid}.tar"] = {
            f"{name}.JPEG": picture(int(name.partition("_")[2]), *special.get(name, ())) for name in names
        }
    val = {f"ILSVRC2012_val_{number:08d}.JPEG": picture(100 + number) for number in (2, 1, 4, 3)}
    devkit = {
        f"{DEVKIT}/readme.txt": b"This is the documentation of the ILSVRC2012 Development Kit.\n",
        f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt": text(3, 1, 1, 2),
        f"{DEVKIT}/data/meta.mat": structs("synsets", SYNSET_FIELDS, SYNSETS, column=True),
        f"{DEVKIT}/evaluation/demo_eval.m": b"% a demo\n",
    }
    return {
        "train": Archive("ILSVRC2012_img_train.tar", inner, folders=False),
        "val": Archive("ILSVRC2012_img_val.tar", val, folders=False),
        "devkit": Archive("ILSVRC2012_devkit_t12.tar.gz", devkit),
    }


CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar_rows(seed, *labels):
    """Rows of a binary file: label bytes as given, then pixels."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (len(labels), 3072), np.uint8)
    return np.concatenate([np.array(labels, np.uint8).reshape(len(labels), -1), pixels], axis=1).tobytes()


def cifar10():
    """Batches of two images, in another order than that of their numbers."""
    folder = "cifar-10-batches-bin"
    train = {number: cifar_rows(number, 2 * number - 1, number - 1) for number in range(1, 6)}
    return {
        "binary": Archive(
            "cifar-10-binary.tar.gz",
            {
                f"{folder}/data_batch_1.bin": train[1],
                f"{folder}/batches.meta.txt": text(*CIFAR10_NAMES, ""),
                f"{folder}/data_batch_3.bin": train[3],
                f"{folder}/data_batch_4.bin": train[4],
                f"{folder}/test_batch.bin": cifar_rows(9, 3, 8, 8),
                f"{folder}/readme.html": b'<meta HTTP-EQUIV="REFRESH" content="0">\n',
                f"{folder}/data_batch_5.bin": train[5],
                f"{folder}/data_batch_2.bin": train[2],
            },
        )
    }


def cifar100():
    """Four fine classes instead of a hundred."""
    folder = "cifar-100-binary"
    return {
        "binary": Archive(
            "cifar-100-binary.tar.gz",
            {
                f"{folder}/train.bin": cifar_rows(1, (1, 3), (0, 0), (1, 2), (0, 0)),
                f"{folder}/test.bin": cifar_rows(2, (0, 1), (1, 3)),
                f"{folder}/coarse_label_names.txt": text("aquatic_mammals", "fish"),
                f"{folder}/fine_label_names.txt": text("apple", "aquarium_fish", "baby", "lawn_mower"),
            },
        )
    }


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


FASHION_LABELS = {"train": (9, 0, 0, 3, 8), "test": (9, 2, 1)}


def fashion_mnist():
    archives = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        labels = np.array(FASHION_LABELS[split], np.uint8)
        pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 28, 28), np.uint8)
        for kind, name, array in (("images", "images-idx3", pixels), ("labels", "labels-idx1", labels)):
            member = f"{prefix}-{name}-ubyte"
            archives[f"{split}_{kind}"] = Archive(f"{member}.gz", {member: idx(array)})
    return archives


CUB_CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
CUB_IMAGES = (  # path, class id, in train
    ("001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", 1, 0),
    ("001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg", 1, 1),
    ("002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg", 2, 0),
    ("002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg", 2, 1),
    ("003.Sooty_Albatross/Sooty_Albatross_0040_796375.jpg", 3, 1),
)


def cub200():
    """AppleDouble files beside images, a grey JPEG, and attributes.txt outside the folder."""
    folder = "CUB_200_2011"
    numbered = list(enumerate(CUB_IMAGES, start=1))
    members = {
        "attributes.txt": text("1 has_bill_shape::curved_(up_or_down)"),
        f"{folder}/README": b"The Caltech-UCSD Birds-200-2011 Dataset\n",
        f"{folder}/bounding_boxes.txt": text(*(f"{number} 1.0 2.0 10.0 10.0" for number, _ in numbered)),
        f"{folder}/parts/parts.txt": text("1 back"),
        f"{folder}/images/._001.Black_footed_Albatross": APPLE_DOUBLE,
        f"{folder}/images/.DS_Store": b"\x00\x00\x00\x01Bud1",
    }
    for number, (path, _, _) in reversed(numbered):
        members[f"{folder}/images/{path}"] = picture(number, "JPEG", "L" if number == 3 else "RGB")
    first = CUB_IMAGES[0][0]
    members[f"{folder}/images/{first.replace('/', '/._')}"] = APPLE_DOUBLE
    members |= {
        f"{folder}/images.txt": text(*(f"{number} {path}" for number, (path, _, _) in numbered)),
        f"{folder}/image_class_labels.txt": text(*(f"{number} {label}" for number, (_, label, _) in numbered)),
        f"{folder}/train_test_split.txt": text(*(f"{number} {train}" for number, (_, _, train) in numbered)),
        f"{folder}/classes.txt": text(*(f"{number} {name}" for number, name in enumerate(CUB_CLASSES, start=1))),
    }
    return {"images": Archive("CUB_200_2011.tgz", members)}


CAR_NAMES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")
CAR_LABELS = {"train": (3, 1, 3, 2), "test": (2, 3)}


def car_annotations(split, labelled=True):
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", *(["class"] if labelled else []), "fname"]
    rows = [
        (1.0, 2.0, 20.0, 18.0, *([label] if labelled else []), f"{number:05d}.jpg")
        for number, label in enumerate(CAR_LABELS[split], start=1)
    ]
    return structs("annotations", fields, rows)


def cars():
    images = {
        split: {
            f"cars_{split}/{number:05d}.jpg": picture(10 * number, "JPEG", "L" if number == 2 else "RGB")
            for number in range(1, len(labels) + 1)
        }
        for split, labels in CAR_LABELS.items()
    }
    devkit = {
        "devkit/README.txt": b"This file gives documentation for the cars 196 dataset.\n",
        "devkit/cars_meta.mat": mat(class_names=np.array([CAR_NAMES], dtype=object)),
        "devkit/cars_test_annos.mat": car_annotations("test", labelled=False),
        "devkit/cars_train_annos.mat": car_annotations("train"),
        "devkit/eval_train.m": b"% evaluation\n",
        "devkit/train_perfect_preds.txt": text(*CAR_LABELS["train"]),
    }
    return {
        "train": Archive("cars_train.tgz", images["train"]),
        "test": Archive("cars_test.tgz", images["test"]),
        "devkit": Archive("car_devkit.tgz", devkit),
        "test_labels": Archive("cars_test_annos_withlabels.mat", {"": car_annotations("test")}),
    }


AIRCRAFT_VARIANTS = ("707-320", "F-16A/B", "F/A-18", "Model B200", "Yak-42")
AIRCRAFT_IMAGES = {
    "train": (("1025794", "707-320"), ("1340192", "F-16A/B")),
    "val": (("0056978", "F/A-18"),),
    "test": (("1514522", "Model B200"), ("0747566", "F/A-18"), ("2230159", "Yak-42")),
}


def aircraft():
    """Names with slashes and spaces."""
    data = "fgvc-aircraft-2013b/data"
    lists = {split: text(*(" ".join(row) for row in rows)) for split, rows in AIRCRAFT_IMAGES.items()}
    numbers = [number for rows in AIRCRAFT_IMAGES.values() for number, _ in rows]
    members = {
        "fgvc-aircraft-2013b/README.md": b"# FGVC-Aircraft Benchmark\n",
        "fgvc-aircraft-2013b/evaluation.m": b"% evaluation\n",
        f"{data}/families.txt": text("Boeing 707", "F-16"),
        f"{data}/images_box.txt": text(*(f"{number} 1 1 20 18" for number in numbers)),
        f"{data}/images_manufacturer_test.txt": text("1514522 Beechcraft"),
        f"{data}/images_test.txt": text("1514522"),
        **{f"{data}/images_variant_{split}.txt": content for split, content in lists.items()},
        f"{data}/images_variant_trainval.txt": lists["train"] + lists["val"],
        **{f"{data}/images/{number}.jpg": picture(int(number)) for number in sorted(numbers)},
        f"{data}/variants.txt": text(*AIRCRAFT_VARIANTS),
    }
    return {"images": Archive("fgvc-aircraft-2013b.tar.gz", members)}


PET_LISTS = {
    "trainval": ("Abyssinian_100 1 1 1", "american_bulldog_100 2 2 1", "British_Shorthair_21 3 1 2", "Abyssinian_34 1 1 1"),
    "test": ("Abyssinian_201 1 1 1", "american_bulldog_203 2 2 1", "British_Shorthair_5 3 1 2"),
}  # fmt: skip


def pets():
    """Three of the classes; .mat files, an image that no list names, a GIF and a PNG under `.jpg`, trimaps."""
    listed = [row.split()[0] for rows in PET_LISTS.values() for row in rows]
    formats = {"Abyssinian_34": ("GIF", "P"), "British_Shorthair_5": ("PNG", "RGBA"), "Abyssinian_201": ("JPEG", "L")}
    images = {
        f"images/{name}.jpg": picture(number, *formats.get(name, ()))
        for number, name in enumerate(sorted([*listed, "Abyssinian_104"]))
    }
    images |= {f"images/Abyssinian_{number}.mat": mat(x=number) for number in (100, 101)}
    header = ("#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids")
    annotations = {
        "annotations/README": b"trimaps/ Trimap annotations for every image in the dataset\n",
        "annotations/list.txt": text(*header, *(row for rows in PET_LISTS.values() for row in rows)),
        **{f"annotations/{name}.txt": text(*rows) for name, rows in PET_LISTS.items()},
        **{f"annotations/trimaps/{name}.png": picture(1, "PNG", "L") for name in listed},
        **{f"annotations/trimaps/._{name}.png": APPLE_DOUBLE for name in listed},
        "annotations/xmls/Abyssinian_100.xml": b"<annotation></annotation>\n",
    }
    return {
        "images": Archive("images.tar.gz", images),
        "annotations": Archive("annotations.tar.gz", annotations),
    }


COCO_IMAGES = {"train": (9, 25, 581921), "val": (139, 285)}
COCO_CATEGORIES = (
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "vehicle", "id": 3, "name": "car"},
)


def coco_instances(split):
    """One box of each category in every image."""
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 24, "height": 20} for n in COCO_IMAGES[split]]
    objects = [
        {
            **{"id": 10 * number + category["id"], "image_id": number, "category_id": category["id"]},
            **{"bbox": [2.0, 3.0, 10.5, 8.0], "area": 84.0, "iscrowd": 0},
            "segmentation": [[2.0, 3.0, 12.5, 3.0, 12.5, 11.0, 2.0, 11.0]],
        }
        for number in COCO_IMAGES[split]
        for category in COCO_CATEGORIES
    ]
    content = {"info": {}, "licenses": [], "images": images, "annotations": objects, "categories": COCO_CATEGORIES}
    return json.dumps(content).encode()


def coco():
    annotations = {f"annotations/instances_{split}2017.json": coco_instances(split) for split in COCO_IMAGES}
    annotations |= {
        f"annotations/{kind}_{split}2017.json": b'{"images": []}'
        for kind in ("captions", "person_keypoints")
        for split in COCO_IMAGES
    }
    images = {
        split: {
            f"{split}2017/{number:012d}.jpg": picture(number, "JPEG", "L" if number == 25 else "RGB")
            for number in numbers
        }
        for split, numbers in COCO_IMAGES.items()
    }
    return {
        "train": Archive("train2017.zip", images["train"]),
        "val": Archive("val2017.zip", images["val"]),
        "annotations": Archive("annotations_trainval2017.zip", annotations, folders=False),
    }


VOC_NAMES = {
    "trainval2007": ("000005", "000007"),
    "test2007": ("000001", "000002"),
    "trainval2012": ("2008_000008", "2011_003276"),
}


def voc_xml(year, name, *classes):
    objects = "".join(
        f"<object><name>{item}</name><pose>Left</pose><truncated>0</truncated><difficult>{number % 2}</difficult>"
        "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>15</ymax></bndbox></object>"
        for number, item in enumerate(classes)
    )
    size = "<size><width>24</width><height>20</height><depth>3</depth></size>"
    head = f"<folder>VOC{year}</folder><filename>{name}.jpg</filename>"
    return f"<annotation>{head}{size}<segmented>0</segmented>{objects}</annotation>\n".encode()


def voc():
    """An image and annotations that no list of the main task names (2012), and what segmentation and layout need."""
    archives = {}
    for role, names in VOC_NAMES.items():
        split, year = role[:-4], role[-4:]
        devkit, last = f"VOCdevkit/VOC{year}", names[-1]
        extra = ("2007_000032",) if role == "trainval2012" else ()
        members = {
            **{f"{devkit}/Annotations/{name}.xml": voc_xml(year, name, "chair", "dog") for name in (*names, *extra)},
            f"{devkit}/ImageSets/Layout/{split}.txt": text(f"{last}  1"),
            f"{devkit}/ImageSets/Main/dog_{split}.txt": text(*(f"{name}  1" for name in names)),
            f"{devkit}/ImageSets/Main/{split}.txt": text(*names),
            f"{devkit}/ImageSets/Segmentation/{split}.txt": text(last),
            **{f"{devkit}/JPEGImages/{name}.jpg": picture(int(name[-3:])) for name in (*names, *extra)},
            f"{devkit}/SegmentationClass/{last}.png": picture(1, "PNG", "P"),
            f"{devkit}/SegmentationObject/{last}.png": picture(2, "PNG", "P"),
        }
        official = {"trainval2007": "VOCtrainval_06-Nov-2007", "test2007": "VOCtest_06-Nov-2007"}
        archives[role] = Archive(f"{official.get(role, 'VOCtrainval_11-May-2012')}.tar", members)
    return archives


SETS = {
    function.__name__: function
    for function in (imagenet, cifar10, cifar100, cub200, cars, aircraft, pets, fashion_mnist, coco, voc)
}
