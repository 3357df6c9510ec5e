"""``rl_nnunet_convert_lndb``: classes of ratings, cubes where the centers are, and what is refused; on a look-alike."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from rl_nnunet.case_table import read_case_table
from rl_nnunet.class_table import read_class_table
from rl_nnunet.dataset_conversion.convert_lndb import main
from rl_nnunet.dataset_conversion.lndb import TEXTURE_CLASSES, Nodule, read_nodules, texture_class
from rl_nnunet.dataset_conversion.lndb_cubes import ScanNodules, cut_cube, cut_scan
from rl_nnunet.errors import InputError

HEADER = "LNDbID,RadID,RadFindingID,FindingID,x,y,z,AgrLevel,Nodule,Volume,Text"
SIZE, SPACING, ORIGIN = np.array([32, 30, 20]), np.array([1.5, 1.5, 2.0]), np.array([-158.0, -309.5, -297.5])
PER_SCAN = ((10, 12, 9), (20.3, 15.2, 10.1))
"""Centers of the nodules of a scan, in voxels (x, y, z)."""
RATINGS = ((1, 5), (1.5, 3), (2, 4.5), (3, 5), (3.5, 4), (1, 3), (5, 2.6666666666666665), (4, 2))


def position(voxel):
    """Where the center of a voxel is, in mm: the axes of these scans are those of the world."""
    return ORIGIN + np.array(voxel) * SPACING


def row(scan, finding, center, texture, nodule=1):
    x, y, z = center
    return f'{scan},"1,2","1,3",{finding},{x},{y},{z},2,{nodule},113.1,{texture}'


def write_scan(path, seed=0, air=-1000):
    """Write noise in the lung's range, as LNDb stores it, and return its voxels (z, y, x)."""
    values = np.random.default_rng(seed).integers(air, 300, SIZE[::-1]).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin(ORIGIN.tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path)
    return values


@pytest.fixture
def lndb(tmp_path):
    """Eight scans of two nodules, a finding that is none, a nodule without texture, a scan without findings; masks."""
    folder = tmp_path / "LNDb"
    rows = [HEADER]
    for number, ratings in enumerate(RATINGS, start=1):
        write_scan(folder / f"data{number % 2}" / f"LNDb-{number:04d}.mhd", number)
        rows += [row(number, f, position(v), t) for f, (v, t) in enumerate(zip(PER_SCAN, ratings, strict=True), 1)]
    rows += [row(1, 3, position((1, 1, 1)), 0, nodule=0), row(2, 3, position((2, 2, 2)), 0)]
    write_scan(folder / "data0" / "LNDb-0012.mhd")
    write_scan(folder / "masks" / "LNDb-0001_rad1.mhd")
    (folder / "trainset_csv").mkdir()
    (folder / "trainset_csv" / "trainNodules_gt.csv").write_text("\r\n".join(rows) + "\r\n")
    return folder


@pytest.fixture
def table(lndb):
    return lndb / "trainset_csv" / "trainNodules_gt.csv"


@pytest.fixture
def convert(run, lndb):
    """Return a function that converts the look-alike with cubes of 18 mm: 12 x 12 x 9 voxels."""
    return lambda *flags: run(main, "-i", lndb, "-d", 8, "-np", 1, "--edge", 18, "--folds", 2, *flags)


@pytest.mark.parametrize(
    ("ratings", "label"),
    [
        ((1,), "ground_glass"),
        ((2, 2, 2), "ground_glass"),
        ((1, 2, 3, 3), "ground_glass"),  # 2.25
        ((2, 2, 3), "part_solid"),  # 7/3
        ((3,), "part_solid"),
        ((3, 4), "part_solid"),
        ((3, 3, 5), "solid"),  # 11/3
        ((4,), "solid"),
        ((5, 5), "solid"),
    ],
)
def test_classes_of_ratings(ratings, label):
    """Whether the table states the mean in full, or rounded to two digits in either direction."""
    mean = np.mean(ratings)
    for stated in (mean, np.floor(mean * 100) / 100, np.ceil(mean * 100) / 100):
        assert texture_class(stated) == label


def test_the_command_writes_a_classification_data_set(convert, raw, verify):
    outcome = convert()
    assert outcome.code == 0, outcome.err
    folder = raw / "Dataset008_LNDb"
    described = json.loads((folder / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "CT"}
    assert described["rl_nnunet"]["classes"] == list(TEXTURE_CLASSES)
    assert described["rl_nnunet"]["crop"] == "image"
    labels = {entry.case: entry.label for entry in read_class_table(folder / "classification.csv")}
    assert len(labels) == 16
    assert labels["LNDb-0001_01"] == "ground_glass"
    assert labels["LNDb-0002_02"] == "part_solid"
    assert labels["LNDb-0001_02"] == "solid"
    rows = {entry.case: entry for entry in read_case_table(folder / "cases.csv")}
    assert rows["LNDb-0003_02"].patient == "LNDb-0003"
    assert rows["LNDb-0003_02"].details == {"texture": "4.5"}
    verify(folder)


def test_a_cube_is_the_part_of_the_scan_around_the_center(convert, lndb, raw):
    assert convert().code == 0
    scan = sitk.GetArrayFromImage(sitk.ReadImage(lndb / "data1" / "LNDb-0003.mhd"))
    image = sitk.ReadImage(raw / "Dataset008_LNDb" / "imagesTr" / "LNDb-0003_02_0000.nii.gz")
    # 18 mm are 12 voxels of 1.5 mm, as many on either side of (20.3, 15.2), and 9 of 2 mm around 10.
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan[6:15, 10:22, 15:27])
    np.testing.assert_allclose(image.GetOrigin(), position((15, 10, 6)), atol=1e-3)
    np.testing.assert_allclose(image.GetSpacing(), SPACING, atol=1e-5)
    label = sitk.ReadImage(raw / "Dataset008_LNDb" / "labelsTr" / "LNDb-0003_02.nii.gz")
    assert (sitk.GetArrayFromImage(label) == 1).all()
    assert label.GetSize() == image.GetSize() == (12, 12, 9)


def test_who_is_left_out_and_what_is_filled_up_is_named(convert):
    out = convert("--edge", 50).out
    assert "Notice: 1 finding of trainNodules_gt.csv left out, being no nodule (Nodule 0)." in out
    assert "Notice: LNDb-0002_03 is left out: trainNodules_gt.csv states no texture of it." in out
    assert "states no nodule with a texture there: LNDb-0012." in out
    assert "filled up with air, as the cube reaches beyond the scan: LNDb-" in out


def test_folds_have_every_class_and_keep_a_scan_together(convert, raw):
    assert convert().code == 0
    folder = raw / "Dataset008_LNDb"
    labels = {entry.case: entry.label for entry in read_class_table(folder / "classification.csv")}
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 2
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == sorted(labels)
        assert not {case[:9] for case in fold["train"]} & {case[:9] for case in fold["val"]}
        assert all({labels[case] for case in part} == set(TEXTURE_CLASSES) for part in fold.values())


def oblique(shape=(9, 8, 7), low=-1000):
    """Return a scan whose axes are turned in the plane, with a step in each voxel."""
    image = sitk.GetImageFromArray((low + np.arange(np.prod(shape))).reshape(shape).astype(np.int16))
    turned = np.deg2rad(20)
    image.SetDirection((np.cos(turned), -np.sin(turned), 0, np.sin(turned), np.cos(turned), 0, 0, 0, 1))
    image.SetSpacing((1.0, 1.0, 2.0))
    image.SetOrigin((5.0, -3.0, 11.0))
    return image


@pytest.mark.parametrize("center", [(3, 4, 4), (0, 0, 0), (6, 7, 8)])
@pytest.mark.parametrize("edge", [3, 6, 40])
def test_every_voxel_of_a_cube_is_where_it_was(center, edge):
    """Against a look at the scan, one position in mm at a time."""
    scan = oblique()
    cube, is_filled_up = cut_cube(scan, np.array(center, float), edge)
    values = sitk.GetArrayFromImage(cube)
    assert values.shape == (round(edge / 2 + 0.01), edge, edge)
    outside = 0
    for index in np.ndindex(values.shape):
        voxel = scan.TransformPhysicalPointToIndex(cube.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]))
        inside = all(0 <= i < extent for i, extent in zip(voxel, scan.GetSize(), strict=True))
        outside += not inside
        assert values[index] == (scan[voxel] if inside else -1000)
    assert is_filled_up == (outside > 0)


def test_what_lies_outside_is_air_even_if_the_scan_is_darker_there():
    """Scanners write values far below air where they see nothing; nearer than that, its darkest is taken."""
    for low, value in ((-3000, -1024), (0, 0)):
        cube, _ = cut_cube(oblique(low=low), np.zeros(3), 10)
        assert sitk.GetArrayFromImage(cube)[0, 0, 0] == value


def test_a_byte_order_mark_semicolons_and_another_table(convert, lndb, table, raw, tmp_path):
    other = tmp_path / "mine.csv"
    with table.open(newline="") as file, other.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream, delimiter=";").writerows(csv.reader(file))
    table.unlink()
    outcome = convert("--table", other)
    assert outcome.code == 0, outcome.err
    assert len(read_class_table(raw / "Dataset008_LNDb" / "classification.csv")) == 16


def replace(old, new):
    def spoil(folder):
        file = folder / "trainset_csv" / "trainNodules_gt.csv"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return spoil


def add(*rows):
    def spoil(folder):
        with (folder / "trainset_csv" / "trainNodules_gt.csv").open("a") as file:
            file.write("".join(f"{line}\n" for line in rows))

    return spoil


FIRST = row(1, 1, position(PER_SCAN[0]), 1)
BAD = {
    "no column": (replace(",Nodule,", ",Nod,"), "trainNodules_gt.csv has no column nodule, only 'lndbid'"),
    "no number": (replace(FIRST, FIRST.replace("-143.0", "left")), "row 2 states 'left' as x, which is no number"),
    "no finite number": (replace(FIRST, FIRST.replace("-143.0", "nan")), "row 2 states 'nan' as x"),
    "decimal comma": (replace(FIRST, FIRST.replace("-143.0", '"-143,0"')), "row 2 states '-143,0' as x"),
    "no whole number": (add(row(1, 1.5, position((1, 1, 1)), 1)), "states '1.5' as findingid, which is no whole"),
    "too solid": (add(row(1, 4, position((1, 1, 1)), 6)), "states 6 as text, the texture, which goes from 1 to 5"),
    "neither": (add(row(1, 4, position((1, 1, 1)), 1, nodule=2)), "states '2' as nodule; write 1 for a nodule"),
    "outside": (add(row(1, 4, position((32, 1, 1)), 1)), "center of LNDb-0001_04, (-110.0, -308.0, -295.5) mm, lies"),
    "no scan": (add(row(44, 1, position((1, 1, 1)), 1)), "has nodules of LNDb-0044, of which there is no scan below"),
    "twice": (add(FIRST), "has two rows of the finding 1 in LNDb-0001; remove one, or give the table"),
    "two scans": (lambda folder: write_scan(folder / "LNDb-0001.mhd"), "are two files of one scan"),
    "two tables": (
        lambda folder: (folder / "trainNodules_gt.csv").write_text(HEADER),
        "are two tables of the nodules; name one with --table",
    ),
    "no table": (lambda folder: (folder / "trainset_csv" / "trainNodules_gt.csv").unlink(), "name the table of the"),
    "no voxels": (lambda folder: (folder / "data1" / "LNDb-0001.raw").unlink(), "LNDb-0001.raw, which is not there"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_refused(convert, lndb, assert_refused, spoil, sentence):
    spoil(lndb)
    assert_refused(convert(), sentence)


def test_a_table_of_one_class_or_no_nodule_is_refused(convert, table, assert_refused):
    for rows, sentence in (
        ([row(1, 1, position((9, 9, 9)), 1)], "are ground_glass; a classifier needs two classes at least"),
        ([row(1, 1, position((9, 9, 9)), 0)], "has no nodule with a texture"),
    ):
        table.write_text("\n".join([HEADER, *rows]))
        assert_refused(convert(), sentence)


def test_a_folder_without_scans_and_a_cube_too_large_are_refused(convert, run, tmp_path, assert_refused):
    (tmp_path / "empty").mkdir()
    for folder, sentence in (("empty", "holds no scan of LNDb"), ("none", "There is no folder")):
        assert_refused(run(main, "-i", tmp_path / folder, "-d", 8), sentence)
    assert_refused(convert("--edge", 501), "--edge 501: a cube of more than 500 mm")


def test_a_data_set_that_exists_is_refused_before_anything_is_read(convert, assert_refused):
    assert convert().code == 0
    outcome = convert()
    assert_refused(outcome, "exists already; add --overwrite", left=["Dataset008_LNDb"])
    assert "Cutting" not in outcome.err
    assert convert("--overwrite").code == 0


def test_a_folder_that_cannot_be_written_is_told_in_one_sentence(lndb, tmp_path):
    nodule = Nodule(1, 1, tuple(position(PER_SCAN[0])), 3)
    item = ScanNodules(lndb / "data1" / "LNDb-0001.mhd", (nodule,), tmp_path / "gone" / "scratch")
    assert "gone cannot be written (No such file or directory); free space" in cut_scan(item, edge=18).error


def test_surroundings_without_structure_are_refused(convert, lndb, assert_refused):
    path = lndb / "data1" / "LNDb-0001.mhd"
    scan = sitk.ReadImage(path)
    values = np.full(SIZE[::-1], -1000, np.int16)
    values[0, 0, 0] = 0
    even = sitk.GetImageFromArray(values)
    even.CopyInformation(scan)
    sitk.WriteImage(even, path)
    assert_refused(convert(), "has the value -1000 everywhere around LNDb-0001_01")


def test_a_rating_below_every_scale_is_none(tmp_path):
    table = tmp_path / "table.csv"
    rows = [row(1, number, (0, 0, 0), text) for number, text in enumerate(("", "nan", 0, 0.5, 1))]
    table.write_text("\n".join([HEADER, *rows]))
    nodules, notices = read_nodules(table)
    assert [nodule.finding for nodule in nodules] == [4]
    assert len(notices) == 4
    table.write_text("\n".join([HEADER, row(1, 1, (0, 0, 0), "dense")]))
    with pytest.raises(InputError, match="states 'dense' as text, which is no number"):
        read_nodules(table)
