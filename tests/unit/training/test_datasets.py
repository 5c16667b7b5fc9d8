"""Readers of the labelled sets, each on a small made-up tree of the same shape."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studies.model import Box, Region
from training.datasets import (
    DatasetError,
    Example,
    UnreadableImage,
    folds_by_group,
    load_pixels,
    read_dataset,
    split_by_group,
)
from training.datasets.coco import read_coco
from training.datasets.example import readable, says_fracture, upright_size
from training.datasets.folder import read_folder
from training.datasets.fracatlas import read_fracatlas
from training.datasets.grazpedwri import read_grazpedwri
from training.datasets.layouts import find_layout
from training.datasets.mura import read_mura
from training.datasets.voc import read_voc
from training.datasets.yolo import read_yolo


def picture(path: Path, *, columns: int = 40, rows: int = 60, orientation: int = 1) -> Path:
    """A grey picture, brighter at the top, with an EXIF orientation if not 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.linspace(255, 0, rows).astype(np.uint8)[:, None].repeat(columns, axis=1)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def only(*regions: Region) -> frozenset[Region]:
    return frozenset(regions)


def box(left: float, top: float, right: float, bottom: float) -> Box:
    return Box(left=left, top=top, right=right, bottom=bottom)


# Pixels ------------------------------------------------------------------------------------------


def test_pixels_are_turned_upright_by_their_exif_tag(tmp_path):
    """A file stored on its side is read as it is shown."""
    path = picture(tmp_path / "a.jpg", orientation=6)

    pixels = load_pixels(path)

    assert pixels.shape == (40, 60)
    assert upright_size(path) == (60, 40)
    assert pixels[:, -5:].mean() > 0.9
    assert pixels[:, :5].mean() < 0.1


def test_pixels_of_sixteen_bits_keep_their_range(tmp_path):
    """GRAZPEDWRI-DX has 16-bit PNGs, which must not be cut to eight bits."""
    grey = np.array([[0, 1000], [32768, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")

    assert load_pixels(tmp_path / "a.png") == pytest.approx(grey / 65535, abs=1e-6)


def test_a_truncated_file_is_named(tmp_path):
    """FracAtlas holds truncated files; half an image is no image."""
    whole = picture(tmp_path / "a.jpg", columns=200, rows=200)
    whole.write_bytes(whole.read_bytes()[:700])

    with pytest.raises(UnreadableImage, match=r"a\.jpg: cannot be read"):
        load_pixels(whole)


def test_unreadable_files_are_left_out_and_told(tmp_path):
    """One bad file does not end a training, nor vanish in silence."""
    good = Example(image=picture(tmp_path / "a.png"), source="s", group="1")
    bad = Example(image=text(tmp_path / "b.png", "no image"), source="s", group="2")
    problems: list[UnreadableImage] = []

    assert list(readable([good, bad], problems)) == [good]
    assert [str(p) for p in problems if "b.png" in str(p)]


def test_an_example_cannot_contradict_itself(tmp_path):
    """Fracture boxes on an image without fracture are an error of the set."""
    with pytest.raises(ValueError, match="without fracture"):
        Example(image=tmp_path, source="s", group="1", fractured=False, boxes=(box(0, 0, 1, 1),))
    with pytest.raises(ValueError, match="none is named"):
        Example(image=tmp_path, source="s", group="1", regions=frozenset())


# MURA --------------------------------------------------------------------------------------------


@pytest.fixture
def mura(tmp_path: Path) -> Path:
    root = tmp_path / "MURA-v1.1"
    studies = {
        "train": [
            "XR_ELBOW/patient00001/study1_positive",
            "XR_FINGER/patient00002/study1_negative",
        ],
        "valid": ["XR_HAND/patient00003/study2_negative"],
    }
    for split, folders in studies.items():
        for folder in folders:
            picture(root / split / folder / "image1.png")
        text(
            root / f"{split}_image_paths.csv",
            *(f"MURA-v1.1/{split}/{folder}/image1.png" for folder in folders),
        )
        text(
            root / f"{split}_labeled_studies.csv",
            *(f"MURA-v1.1/{split}/{f}/,{int(f.endswith('positive'))}" for f in folders),
        )
    return root


def test_mura_gives_regions_patients_and_splits(mura):
    """Fingers and hands are our hand and wrist; the published split is kept."""
    examples = read_mura(mura)

    assert [(e.regions, e.group, e.split) for e in examples] == [
        (only(Region.ELBOW), "mura/patient00001", "train"),
        (only(Region.HAND_WRIST), "mura/patient00002", "train"),
        (only(Region.HAND_WRIST), "mura/patient00003", "val"),
    ]
    assert all(e.image.is_file() and e.boxes is None for e in examples)


def test_abnormal_in_mura_is_not_taken_for_fractured(mura):
    """Abnormal is also implants and arthrosis: unknown, unless the user says otherwise."""
    assert [e.fractured for e in read_mura(mura)] == [None, False, False]
    assert [e.fractured for e in read_mura(mura, abnormal_is_fractured=True)] == [
        True,
        False,
        False,
    ]


def test_a_mura_study_that_contradicts_its_folder_is_named_with_its_line(mura):
    """The folder says positive and the CSV says 0."""
    path = mura / "train_labeled_studies.csv"
    path.write_text(path.read_text().replace("study1_positive/,1", "study1_positive/,0"))

    with pytest.raises(DatasetError, match=r"train_labeled_studies\.csv:1: .*labelled 0"):
        read_mura(mura)


def test_mura_names_what_is_missing_with_its_line(mura):
    """Of a half-unpacked archive the first missing file is told."""
    next(mura.glob("train/XR_FINGER/*/*/image1.png")).unlink()

    with pytest.raises(DatasetError, match=r"train_image_paths\.csv:2: .*XR_FINGER.*is missing"):
        read_mura(mura)


def test_a_mura_image_of_no_labelled_study_is_named(mura):
    """An image without a label is not a negative one."""
    text(mura / "valid_labeled_studies.csv", "MURA-v1.1/valid/XR_HAND/patient9/study1_negative/,0")

    with pytest.raises(DatasetError, match=r"valid_image_paths\.csv:1: .*no labelled study"):
        read_mura(mura)


def test_a_mura_line_that_is_no_study_is_named(mura):
    """A header or a foreign path is not skipped in silence."""
    text(mura / "train_labeled_studies.csv", "study,label")

    with pytest.raises(DatasetError, match=r"train_labeled_studies\.csv:1: 'study'"):
        read_mura(mura)


# FracAtlas ---------------------------------------------------------------------------------------

HEADER = "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,frontal,lateral,oblique"


def coco(images: dict[int, str], annotations: list[dict[str, Any]], *names: str) -> str:
    return json.dumps(
        {
            "images": [
                {"id": i, "file_name": n, "width": 40, "height": 60} for i, n in images.items()
            ],
            "annotations": annotations,
            "categories": [{"id": i, "name": n} for i, n in enumerate(names)],
        }
    )


@pytest.fixture
def fracatlas(tmp_path: Path) -> Path:
    root = tmp_path / "FracAtlas"
    text(
        root / "dataset.csv",
        HEADER,
        "IMG0000000.jpg,0,1,0,0,0,0,0,0,0,1,0,0",
        "IMG0000001.jpg,0,1,0,0,0,0,0,1,1,1,0,0",
        "IMG0000010.jpg,0,0,0,1,0,0,0,0,0,1,0,0",
        "IMG0000002.jpg,0,0,1,0,0,0,0,0,0,1,0,0",
    )
    picture(root / "images" / "Non_fractured" / "IMG0000000.jpg")
    picture(root / "images" / "Fractured" / "IMG0000001.jpg", orientation=6)
    picture(root / "images" / "Non_fractured" / "IMG0000002.jpg")
    picture(root / "images" / "Non_fractured" / "IMG0000010.jpg")
    text(
        root / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json",
        coco(
            {5: "IMG0000001.jpg"},
            [{"id": 0, "image_id": 5, "category_id": 0, "bbox": [1.5, 2, 10, 20]}],
            "fractured",
        ),
    )
    return root


def test_fracatlas_gives_fractures_boxes_and_blocks(fracatlas):
    """Neighbours of one part share a block; files are ordered by number, not by row."""
    examples = read_fracatlas(fracatlas)

    assert [e.image.name for e in examples] == [
        "IMG0000000.jpg",
        "IMG0000001.jpg",
        "IMG0000002.jpg",
        "IMG0000010.jpg",
    ]
    assert [e.fractured for e in examples] == [False, True, False, False]
    assert examples[1].boxes == (box(1.5, 2, 11.5, 22),)
    assert examples[0].boxes == ()
    assert [e.group for e in examples] == [f"fracatlas/{i}" for i in (0, 0, 1, 2)]


def test_the_coarse_parts_of_fracatlas_are_no_regions(fracatlas):
    """Its leg is anything from knee to foot; hip and shoulder are what they say."""
    assert [e.regions for e in read_fracatlas(fracatlas)] == [
        None,
        None,
        only(Region.HIP),
        only(Region.SHOULDER),
    ]


def test_fracatlas_boxes_fit_the_upright_image(fracatlas):
    """Two files carry an EXIF rotation, and their boxes lie on the turned image."""
    fractured = next(e for e in read_fracatlas(fracatlas) if e.fractured)

    assert load_pixels(fractured.image).shape == (40, 60)


def test_blocks_of_fracatlas_are_bounded(tmp_path):
    """A long run of one part is cut, or one block would be a third of the set."""
    root = tmp_path / "FracAtlas"
    names = [f"IMG{i:07}.jpg" for i in range(30)]
    for name in names:
        picture(root / "images" / "Non_fractured" / name, columns=4, rows=4)
    text(root / "dataset.csv", HEADER, *(f"{n},1,0,0,0,0,0,0,0,0,1,0,0" for n in names))
    text(root / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json", coco({}, [], "fractured"))

    groups = [e.group for e in read_fracatlas(root)]

    assert groups == ["fracatlas/0"] * 25 + ["fracatlas/1"] * 5


def test_fracatlas_names_a_missing_file_and_a_contradiction(fracatlas):
    """Both with the line of dataset.csv."""
    table = fracatlas / "dataset.csv"
    (fracatlas / "images" / "Non_fractured" / "IMG0000010.jpg").rename(fracatlas / "x.jpg")
    with pytest.raises(DatasetError, match=r"dataset\.csv:4: .*IMG0000010\.jpg is missing"):
        read_fracatlas(fracatlas)

    table.write_text(
        table.read_text().replace("001.jpg,0,1,0,0,0,0,0,1", "001.jpg,0,1,0,0,0,0,0,0")
    )
    picture(fracatlas / "images" / "Non_fractured" / "IMG0000001.jpg")
    with pytest.raises(DatasetError, match=r"dataset\.csv:3: IMG0000001\.jpg has boxes"):
        read_fracatlas(fracatlas)


def test_fracatlas_names_a_field_that_is_no_flag(fracatlas):
    """A shifted row is found at its line."""
    table = fracatlas / "dataset.csv"
    table.write_text(table.read_text().replace("IMG0000002.jpg,0", "IMG0000002.jpg,hand"))

    with pytest.raises(DatasetError, match=r"dataset\.csv:5: hand is 'hand'"):
        read_fracatlas(fracatlas)


# GRAZPEDWRI-DX -----------------------------------------------------------------------------------


@pytest.fixture
def grazpedwri(tmp_path: Path) -> Path:
    root = tmp_path / "graz"
    text(
        root / "dataset.csv",
        "filestem,patient_id,study_number,age,laterality,projection,cast,fracture_visible,metal",
        "0001_1297860395_01_WRI-L1_M014,1,1,14,L,1,,1.0,",
        "0002_0354485735_01_WRI-R1_F012,2,1,12,R,1,,,",
        "0003_0662359226_01_WRI-R1_M011,3,1,11,R,1,,1.0,",
    )
    picture(root / "images_part1" / "0001_1297860395_01_WRI-L1_M014.png")
    picture(root / "images_part2" / "0002_0354485735_01_WRI-R1_F012.png")
    labels = root / "folder_structure" / "yolov5" / "labels"
    text(labels / "0001_1297860395_01_WRI-L1_M014.txt", "8 0.5 0.1 0.1 0.1", "3 0.5 0.5 0.5 0.5")
    text(labels / "0002_0354485735_01_WRI-R1_F012.txt", "8 0.5 0.1 0.1 0.1")
    return root


def test_grazpedwri_gives_patients_and_fracture_boxes_only(grazpedwri):
    """The letter in the image is a box too, but no fracture; what is not unpacked is left out."""
    examples = read_grazpedwri(grazpedwri)

    assert [(e.group, e.fractured, e.boxes) for e in examples] == [
        ("grazpedwri/1", True, (box(10, 15, 30, 45),)),
        ("grazpedwri/2", False, ()),
    ]
    assert all(e.regions == only(Region.HAND_WRIST) for e in examples)


def test_a_malformed_label_of_grazpedwri_is_named_with_its_line(grazpedwri):
    """Pixels instead of shares are found."""
    label = next(grazpedwri.rglob("0002*.txt"))
    text(label, "8 0.5 0.1 0.1 0.1", "3 20 30 10 10")

    with pytest.raises(DatasetError, match=rf"{label.name}:2: .*beyond the image"):
        read_grazpedwri(grazpedwri)


def test_grazpedwri_without_images_is_not_an_empty_set(grazpedwri):
    """A wrong folder is told at once, not after an epoch of nothing."""
    for path in grazpedwri.rglob("*.png"):
        path.unlink()

    with pytest.raises(DatasetError, match="no image"):
        read_grazpedwri(grazpedwri)


def test_a_missing_column_is_named(grazpedwri):
    """The message says which column of which file."""
    text(grazpedwri / "dataset.csv", "filestem,fracture_visible", "a,1")

    with pytest.raises(DatasetError, match=r"dataset\.csv:1: lacks the column patient_id"):
        read_grazpedwri(grazpedwri)


# COCO --------------------------------------------------------------------------------------------


@pytest.fixture
def coco_set(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    for name in ("a.png", "b.png"):
        picture(root / "images" / name)
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": 1, "category_id": 0, "bbox": [0, 0, 9, 9]},
    ]
    text(root / "boxes.json", coco({1: "a.png", 2: "b.png"}, annotations, "implant", "Fracture"))
    return root


def test_coco_boxes_of_fractures_are_read(coco_set):
    """An annotated set's image without a fracture box has none."""
    examples = read_dataset(coco_set)

    assert [(e.image.name, e.fractured, e.boxes) for e in examples] == [
        ("a.png", True, (box(1, 2, 4, 6),)),
        ("b.png", False, ()),
    ]


def test_coco_categories_and_patients_can_be_named(coco_set):
    """Where names do not say what is a fracture, the user does."""
    examples = read_coco(
        coco_set / "boxes.json",
        coco_set,
        categories=["implant"],
        group_of={"a.png": "p7", "b.png": "p7"},
        regions=only(Region.KNEE),
    )

    assert examples[0].boxes == (box(0, 0, 9, 9),)
    assert {e.group for e in examples} == {"coco/p7"}
    assert {e.regions for e in examples} == {only(Region.KNEE)}
    with pytest.raises(DatasetError, match="no category lesion"):
        read_coco(coco_set / "boxes.json", coco_set, categories=["lesion"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", r"boxes\.json:2: is no JSON"),
        ("[]", "is no COCO JSON"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [{}], "annotations": [], "categories": []}', "image 0 has no id"),
        (coco({1: "a.png"}, [], "implant", "ruler"), "no category that says fracture"),
        (coco({1: "c.png"}, [], "fracture"), r"image c\.png is not below"),
        (
            coco(
                {1: "a.png"}, [{"image_id": 1, "category_id": 0, "bbox": [1, 2, 0, 4]}], "fracture"
            ),
            "without area",
        ),
        (
            coco({1: "a.png"}, [{"image_id": 1, "category_id": 0}], "fracture"),
            "annotation 0 has no bbox",
        ),
        (
            coco(
                {1: "a.png"}, [{"image_id": 9, "category_id": 0, "bbox": [1, 2, 3, 4]}], "fracture"
            ),
            "annotation 0 is of no listed image",
        ),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_said(coco_set, content, problem):
    """Each with the file's name."""
    text(coco_set / "boxes.json", content)

    with pytest.raises(DatasetError, match=problem):
        read_coco(coco_set / "boxes.json", coco_set)


# YOLO --------------------------------------------------------------------------------------------


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    root = tmp_path / "yolo"
    text(root / "data.yaml", "names: [elbow fracture, no_fracture]", "nc: 2")
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        picture(root / split / "images" / f"{name}.png")
    text(root / "train" / "labels" / "a.txt", "0 0.5 0.5 0.5 0.2", "0 0 0 0.5 0 0.5 0.5", "")
    text(root / "valid" / "labels" / "b.txt", "1 0.5 0.5 0.2 0.2")
    return root


def test_yolo_boxes_and_polygons_are_read(yolo):
    """A polygon gives its hull; a class that says no fracture, or no file, gives none."""
    examples = {e.image.stem: e for e in read_dataset(yolo)}

    assert examples["a"].boxes == (box(10, 24, 30, 36), box(0, 0, 20, 30))
    assert [examples[n].fractured for n in "abc"] == [True, False, False]
    assert [examples[n].split for n in "abc"] == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.5 0.5 0.5", "neither a box nor a polygon"),
        ("0 0.5 0.5 x 0.5", "no number"),
        ("0.5 0.5 0.5 0.5 0.5", "no whole number"),
        ("0 0.5 0.5 0 0.5", "without area"),
        ("0 0.9 0.5 0.9 0.5", "beyond the image"),
    ],
)
def test_what_is_wrong_with_a_yolo_line_is_said(yolo, line, problem):
    """Each with the file's name and the line."""
    text(yolo / "train" / "labels" / "a.txt", "0 0.5 0.5 0.5 0.2", line)

    with pytest.raises(DatasetError, match=rf"a\.txt:2: .*{problem}"):
        read_yolo(yolo)


def test_yolo_classes_may_come_from_either_file(yolo):
    """A mapping in YAML, or one name a line."""
    text(yolo / "data.yaml", "names:", "  0: bone", "  1: lesion")
    with pytest.raises(DatasetError, match="no class that says fracture"):
        read_yolo(yolo)
    assert [e.fractured for e in read_yolo(yolo, categories=["lesion"])] == [False, False, True]

    (yolo / "data.yaml").unlink()
    text(yolo / "classes.txt", "fracture", "other")
    assert sum(bool(e.fractured) for e in read_yolo(yolo)) == 1

    (yolo / "classes.txt").unlink()
    with pytest.raises(DatasetError, match=r"no data\.yaml and no classes\.txt"):
        read_yolo(yolo)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("names: [a", r"data\.yaml:2: is no YAML"), ("nc: 2", "no list of names")],
)
def test_what_is_wrong_with_data_yaml_is_said(yolo, content, problem):
    """With the line where YAML knows it."""
    text(yolo / "data.yaml", content)

    with pytest.raises(DatasetError, match=problem):
        read_yolo(yolo)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fracture", True),
        ("Fractured", True),
        ("humerus_fracture", True),
        ("no fracture", False),
        ("Non_fractured", False),
        ("bone", False),
    ],
)
def test_a_class_that_denies_a_fracture_is_none(name, says):
    """The word alone does not decide."""
    assert says_fracture(name) is says


# Pascal VOC --------------------------------------------------------------------------------------

VOC = """<annotation><filename>{name}</filename><object><name>fracture</name>
<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>20</xmax>{last}</bndbox></object>
<object><name>implant</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "voc"
    picture(root / "JPEGImages" / "a.png")
    picture(root / "JPEGImages" / "b.png")
    text(root / "Annotations" / "a.xml", VOC.format(name="a.png", last="<ymax>30</ymax>"))
    text(root / "Annotations" / "b.xml", "<annotation><filename>b.png</filename></annotation>")
    return root


def test_voc_boxes_are_read_from_the_corner_of_the_pixel(voc):
    """VOC counts from 1 and includes the last pixel: 1 to 20 is 0 to 20 by edges."""
    examples = read_dataset(voc)

    assert [(e.image.name, e.fractured, e.boxes) for e in examples] == [
        ("a.png", True, (box(0, 10, 20, 30),)),
        ("b.png", False, ()),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<annotation>", r"a\.xml:2: is no XML"),
        (VOC.format(name="z.png", last="<ymax>30</ymax>"), "image 'z.png' is not below"),
        (VOC.format(name="a.png", last=""), "object 'fracture' has no whole bndbox"),
    ],
)
def test_what_is_wrong_with_a_voc_file_is_said(voc, content, problem):
    """Each with the file's name."""
    text(voc / "Annotations" / "a.xml", content)

    with pytest.raises(DatasetError, match=problem):
        read_voc(voc / "Annotations", voc)


# Own folder --------------------------------------------------------------------------------------


def test_a_listed_folder_says_what_it_knows(tmp_path):
    """Empty fields are unknown; boxes and patients are optional."""
    for name in "abcd":
        picture(tmp_path / "x" / f"{name}.png")
    text(
        tmp_path / "labels.csv",
        "file,fractured,regions,group,split",
        "x/a.png,1,wrist|forearm,p1,train",
        "x/b.png,0,Lower leg,p2,validation",
        "x/c.png,,,,",
        "x/d.png,1,,p1,train",
    )
    text(tmp_path / "boxes.csv", "file,left,top,right,bottom", "x/a.png,1,2,3,4.5")

    a, b, c, d = read_dataset(tmp_path)

    assert (a.regions, a.boxes) == (only(Region.HAND_WRIST, Region.FOREARM), (box(1, 2, 3, 4.5),))
    assert a.group == d.group != b.group
    assert (b.regions, b.fractured, b.boxes, b.split) == (only(Region.LEG), False, (), "val")
    assert (c.regions, c.fractured, c.boxes, c.split) == (None, None, None, None)
    assert (d.fractured, d.boxes) == (True, None)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("b.png,1,,", r"labels\.csv:2: b\.png is missing"),
        ("a.png,maybe,,", r"labels\.csv:2: fractured is 'maybe'"),
        ("a.png,1,skull,", r"labels\.csv:2: unknown region 'skull'"),
        ("a.png,1,,holdout", r"labels\.csv:2: unknown split 'holdout'"),
        ("a.png,0,,", r"labels\.csv:2: a\.png has boxes"),
        ("a.png", r"labels\.csv:2: has too few fields"),
    ],
)
def test_what_is_wrong_with_labels_csv_is_said(tmp_path, row, problem):
    """Each with the line."""
    picture(tmp_path / "a.png")
    text(tmp_path / "labels.csv", "file,fractured,regions,split", row)
    text(tmp_path / "boxes.csv", "file,left,top,right,bottom", "a.png,1,2,3,4")

    with pytest.raises(DatasetError, match=problem):
        read_folder(tmp_path)


def test_a_box_that_is_no_number_is_named_with_its_line(tmp_path):
    """The same for boxes.csv."""
    picture(tmp_path / "a.png")
    text(tmp_path / "labels.csv", "file,fractured", "a.png,1")
    text(tmp_path / "boxes.csv", "file,left,top,right,bottom", "a.png,1,2,three,4")

    with pytest.raises(DatasetError, match=r"boxes\.csv:2: an edge is no number"):
        read_folder(tmp_path)


def test_folders_say_what_their_images_show(tmp_path):
    """Split, region, answer and patient by the names of the folders, in any order of the first two."""
    for folder in ("train/elbow/fractured/p1", "train/elbow/fractured/p2", "valid/Normal/knee"):
        picture(tmp_path / folder / "1.png")

    first, second, third = read_dataset(tmp_path)

    assert (first.regions, first.fractured, first.boxes) == (only(Region.ELBOW), True, None)
    assert (first.split, third.split) == ("train", "val")
    assert first.group != second.group
    assert (third.regions, third.fractured, third.boxes) == (only(Region.KNEE), False, ())


def test_a_folder_that_says_nothing_is_refused(tmp_path):
    """Images without an answer are not taken for normal."""
    picture(tmp_path / "elbow" / "a.png")

    with pytest.raises(DatasetError, match=r"holds no labels\.csv"):
        read_folder(tmp_path)
    with pytest.raises(DatasetError, match="is not a folder"):
        read_folder(tmp_path / "nowhere")


# Layouts and splits ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ("mura", "fracatlas", "grazpedwri", "yolo", "voc"))
def test_a_layout_is_recognised_by_its_files(layout, request):
    """Nobody has to name what the folder shows by itself."""
    root = request.getfixturevalue(layout)

    assert find_layout(root) == layout
    assert read_dataset(root) == read_dataset(root, layout)


def test_an_unknown_layout_is_refused(tmp_path):
    """With the known ones named."""
    with pytest.raises(DatasetError, match=r"unknown layout 'dicomdir'; known: mura"):
        read_dataset(tmp_path, "dicomdir")


def many(groups: int = 60, per_group: int = 3) -> list[Example]:
    """Patients with several images each; one in five has a fracture on its first image."""
    return [
        Example(
            image=Path(f"{g}_{i}.png"), source="s", group=f"p{g}", fractured=g % 5 == 0 and i == 0
        )
        for g in range(groups)
        for i in range(per_group)
    ]


def test_a_split_never_parts_a_patient():
    """The one property that a split must have."""
    parts = split_by_group(many(), seed=3)
    groups = [{e.group for e in part} for part in parts.values()]

    assert sum(len(g) for g in groups) == 60
    assert sorted(e.image for part in parts.values() for e in part) == sorted(
        e.image for e in many()
    )


def test_a_split_keeps_shares_and_fractures():
    """A rare answer is in every part, about as the shares say."""
    parts = split_by_group(many(200), seed=1)

    assert len(parts["train"]) == pytest.approx(0.7 * 600, abs=12)
    assert sum(bool(e.fractured) for e in parts["train"]) == pytest.approx(28, abs=2)
    assert sum(bool(e.fractured) for e in parts["test"]) == pytest.approx(6, abs=2)


def test_a_split_is_seeded_and_independent_of_order():
    """The same seed gives the same split, another one another."""
    first = split_by_group(many(), seed=1)
    backwards = split_by_group(many()[::-1], seed=1)

    assert {e.group for e in first["test"]} == {e.group for e in backwards["test"]}
    assert {e.group for e in first["test"]} != {
        e.group for e in split_by_group(many(), seed=2)["test"]
    }


def test_every_split_gets_someone():
    """Three patients fill three parts; two cannot."""
    parts = split_by_group(many(3))

    assert all(parts.values())
    with pytest.raises(ValueError, match="2 groups cannot fill 3"):
        split_by_group(many(2))
    with pytest.raises(ValueError, match="sum to 1"):
        split_by_group(many(), shares={"train": 0.5, "test": 0.4})


def test_folds_never_part_a_patient():
    """Each fold holds whole groups, and all folds are used."""
    examples = many()
    folds = folds_by_group(examples, folds=5)
    of_group: dict[str, set[int]] = {}
    for example, fold in zip(examples, folds, strict=True):
        of_group.setdefault(example.group, set()).add(fold)

    assert all(len(f) == 1 for f in of_group.values())
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    assert max(folds.count(i) for i in range(5)) <= 1.3 * min(folds.count(i) for i in range(5))
