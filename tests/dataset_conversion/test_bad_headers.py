"""NIfTI headers that cannot be true are refused in one sentence, before a library relies on what they say."""

import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

SHAPE, SPACING = (5, 6, 7), (1.0, 1.5, 2.0)
NAN, INFINITY = float("nan"), float("inf")
QFORM_ONLY, SFORM_ONLY, NO_FORM = {"sform_code": 0}, {"qform_code": 0}, {"qform_code": 0, "sform_code": 0}


def edit(**fields):
    """Return a mutation that sets fields of a NIfTI header."""

    def mutate(content):
        header = nibabel.Nifti1Header(content[:348], endianness="<", check=False)
        for name, value in fields.items():
            header[name] = value
        return header.binaryblock + content[348:]

    return mutate


def edges(*lengths):
    return edit(pixdim=(1, *lengths, 0, 0, 0, 0))


def dimensions(*extents):
    return edit(dim=(*extents, *[1] * (8 - len(extents))))


def with_extension(length, total=32):
    """Return a mutation that puts a header extension of a stated length in front of the voxels."""

    def mutate(content):
        extension = struct.pack("<ii", length, 6).ljust(total, b"x")
        return edit(vox_offset=352 + total)(content)[:348] + b"\1\0\0\0" + extension + content[352:]

    return mutate


def chain(*mutations):
    def mutate(content):
        for mutation in mutations:
            content = mutation(content)
        return content

    return mutate


def as_type(dtype):
    """Return a mutation that stores the voxels in another type."""

    def mutate(content):
        dtype_ = np.dtype(dtype)
        code, bits = int(nibabel.nifti1.data_type_codes.code[dtype_]), 8 * dtype_.itemsize
        return edit(datatype=code, bitpix=bits)(content)[:352] + bytes(np.prod(SHAPE) * dtype_.itemsize)

    return mutate


REFUSED = {
    "sform of NaN": (edit(srow_x=(NAN, 0, 0, 0)), "sform of numbers that are not finite"),
    "sform of NaN alone": (edit(**SFORM_ONLY, srow_y=(0, NAN, 0, 0)), "sform of numbers that are not finite"),
    "sform with an infinite origin": (edit(srow_z=(0, 0, 2, INFINITY)), "sform of numbers that are not finite"),
    "sform of zeros": (edit(srow_x=(0, 0, 0, 0)), "contradicts itself: voxels of"),
    "sform far off": (edit(**SFORM_ONLY, srow_x=(-1, 0, 0, 1e6)), "farther than a scanner reaches"),
    "sform farther off": (edit(**SFORM_ONLY, srow_x=(-1, 0, 0, 1e30)), "mend its header"),
    "sform of other edges": (edit(srow_x=(-2, 0, 0, -10)), "of 2x1.5x2 mm by its sform"),
    "sform mirrored": (edit(srow_x=(1, 0, 0, -10)), "qform and sform differ"),
    "sform moved": (edit(srow_x=(-1, 0, 0, 500)), "qform and sform differ"),
    "sform sheared": (edit(srow_x=(-1, 0.9, 0, -10), srow_y=(0, -1.2, 0, -20)), "qform and sform differ"),
    "sform sheared alone": (
        edit(**SFORM_ONLY, srow_x=(-1, 0.9, 0, -10), srow_y=(0, -1.2, 0, -20)),
        "axes that are not at right angles",
    ),
    "sform with an axis twice": (
        edit(**SFORM_ONLY, srow_x=(-1, -1.5, 0, -10), srow_y=(0, 0, 0, -20)),
        "axes that are not at right angles",
    ),
    "qform of NaN": (edit(**QFORM_ONLY, quatern_b=NAN), "qform that is no rotation"),
    "qform of NaN beside an sform": (edit(quatern_c=NAN), "qform that is no rotation"),
    "qform far from a unit": (edit(**QFORM_ONLY, quatern_b=3.0), "qform that is no rotation"),
    "qform with an infinite origin": (edit(**QFORM_ONLY, qoffset_x=INFINITY), "qform that is no rotation"),
    "qform far off": (edit(**QFORM_ONLY, qoffset_x=1e30), "farther than a scanner reaches"),
    "qform turned": (edit(quatern_b=0.7, quatern_c=0.7, quatern_d=0.0), "qform and sform differ"),
    "qform factor": (edit(pixdim=(5, 1, 1.5, 2, 0, 0, 0, 0)), "qform factor 5"),
    "qform factor of NaN": (edit(**QFORM_ONLY, pixdim=(NAN, 1, 1.5, 2, 0, 0, 0, 0)), "qform factor nan"),
    "no form": (edit(**NO_FORM), "does not say how its axes lie"),
    "form code too high": (edit(sform_code=257), "sform_code 257"),
    "form code negative": (edit(qform_code=-1), "qform_code -1"),
    "edge 0": (edges(0, 1.5, 2), "voxels of 0x1.5x2 mm"),
    "edge negative": (edges(1, -1.5, 2), "voxels of 1x-1.5x2 mm"),
    "edge of NaN": (edges(1, 1.5, NAN), "voxels of 1x1.5xnan mm"),
    "edge infinite": (edges(1, 1.5, INFINITY), "voxels of 1x1.5xinf mm"),
    "edge huge": (chain(edit(**QFORM_ONLY), edges(1e30, 1.5, 2)), "voxels of 1e+30x1.5x2 mm"),
    "edge of meters": (chain(edit(**QFORM_ONLY), edges(1, 1.5, 8518)), "voxels of 1x1.5x8518 mm"),
    "edge tiny": (chain(edit(**QFORM_ONLY), edges(1e-30, 1.5, 2)), "voxels of 1e-30x1.5x2 mm"),
    "edges beside an sform": (edges(1, 1, 1), "of 1x1.5x2 mm by its sform"),
    "edges called meters": (edit(xyzt_units=1), "voxels of 1000x1500x2000 mm"),
    "voxels before the header": (edit(vox_offset=-400), "voxels start at byte -400"),
    "voxels at 0": (edit(vox_offset=0), "voxels start at byte 0"),
    "voxels within the header": (edit(vox_offset=348), "voxels start at byte 348"),
    "voxels between two bytes": (edit(vox_offset=352.5), "voxels start at byte 352.5"),
    "voxels at NaN": (edit(vox_offset=NAN), "voxels start at byte nan"),
    "voxels at infinity": (edit(vox_offset=INFINITY), "voxels start at byte inf"),
    "voxels far behind": (edit(vox_offset=1e30), "voxels start at byte 1e+30, which cannot be"),
    "voxels a little behind": (edit(vox_offset=368), "is truncated"),
    "too long": (lambda content: content + b"x", "is longer than the 5x6x7 voxels"),
    "too long by a volume": (lambda content: content + content[352:], "is longer than the 5x6x7 voxels"),
    "too short": (lambda content: content[:-1], "is truncated"),
    "header alone": (lambda content: content[:352], "is truncated"),
    "half a header": (lambda content: content[:200], "is not a readable image"),
    "huge": (dimensions(3, 17000, 17000, 14), "promises 17000x17000x14 voxels"),
    "hugest": (dimensions(3, 32767, 32767, 32767), "promises 32767x32767x32767 voxels"),
    "negative size": (dimensions(3, -5, 6, 7), "the size -5x6x7"),
    "no size": (dimensions(3, 5, 0, 7), "the size 5x0x7"),
    "no dimensions": (dimensions(0, 5, 6, 7), "has 0 dimensions"),
    "negative dimensions": (dimensions(-3, 5, 6, 7), "has -3 dimensions"),
    "many dimensions": (dimensions(300, 5, 6, 7), "has 300 dimensions"),
    "two dimensions": (dimensions(2, 5, 42), "one 3D volume per channel"),
    "four dimensions": (dimensions(4, 5, 6, 1, 7), "one 3D volume per channel"),
    "no fourth size": (dimensions(4, 5, 6, 7, 0), "the size 5x6x7x0"),
    "complex": (as_type(np.complex64), "holds complex numbers"),
    "colors": (as_type([("R", "u1"), ("G", "u1"), ("B", "u1")]), "holds colors"),
    "colors with opacity": (as_type([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]), "holds colors"),
    "128-bit floats": (edit(datatype=1536, bitpix=128), "data type 1536, which ITK does not read"),
    "bits": (edit(datatype=1, bitpix=1), "data type 1, which"),
    "no type": (edit(datatype=0), "data type 0, which"),
    "unknown type": (edit(datatype=77), "data type 77, which does not exist"),
    "bits that contradict the type": (edit(bitpix=8), "int16 voxels of 8 bits"),
    "slope infinite": (edit(scl_slope=INFINITY), "rescales its values by inf"),
    "slope huge": (edit(scl_slope=1e30), "rescales its values by 1e+30"),
    "slope tiny": (edit(scl_slope=1e-30), "rescales its values by 1e-30"),
    "intercept of NaN": (edit(scl_slope=1, scl_inter=NAN), "rescales its values by 1 and nan"),
    "intercept huge": (edit(scl_slope=1, scl_inter=-1e30), "rescales its values by 1 and -1e+30"),
    "pair": (edit(magic=b"ni1"), "is the header of a pair"),
    "no mark": (edit(magic=b""), "is not marked as NIfTI"),
    "other mark": (edit(magic=b"n+9"), "is not marked as NIfTI"),
    "other header length": (edit(sizeof_hdr=349), "is not a readable image"),
    "NIfTI-2": (edit(sizeof_hdr=540), "is a NIfTI-2 file"),
    "extension of no length": (with_extension(0), "extensions of an impossible length"),
    "extension shorter than its head": (with_extension(4), "extensions of an impossible length"),
    "extension of negative length": (with_extension(-16), "extensions of an impossible length"),
    "extension into the voxels": (with_extension(1024), "extensions of an impossible length"),
}

ACCEPTED = {
    "qform": edit(**QFORM_ONLY),
    "sform": edit(**SFORM_ONLY),
    "sform beside a qform of no code": edit(**SFORM_ONLY, quatern_b=NAN, pixdim=(0, 1, 1.5, 2, 0, 0, 0, 0)),
    "qform factor 0": edit(pixdim=(0, 1, 1.5, 2, 0, 0, 0, 0)),
    "a series of one volume": dimensions(4, 5, 6, 7, 1),
    "one vector of one part": dimensions(5, 5, 6, 7, 1, 1),
    "sform of a template": edit(sform_code=4, srow_x=(1.2, 0, 0, 9), srow_y=(0, 1.7, 0, 9), srow_z=(0, 0, 2.2, 9)),
    "slope 0": edit(scl_slope=0, scl_inter=NAN),
    "slope of NaN": edit(scl_slope=NAN, scl_inter=NAN),
    "slope 2": edit(scl_slope=2, scl_inter=-5),
    "extension": with_extension(32),
    "extension of zeros": chain(edit(vox_offset=368), lambda c: c[:348] + b"\1\0\0\0" + bytes(16) + c[352:]),
    "micrometers": chain(
        edit(**QFORM_ONLY, xyzt_units=3, qoffset_x=-10000, qoffset_y=-20000, qoffset_z=30000), edges(1000, 1500, 2000)
    ),
}


def mutate(path, mutation):
    path.write_bytes(mutation(path.read_bytes()))


@pytest.mark.parametrize("name", REFUSED)
def test_header_is_refused(name, source, convert, assert_refused):
    mutation, fragment = REFUSED[name]
    mutate(source / "b_image.nii", mutation)
    assert_refused(convert(), source / "b_image.nii", fragment)


@pytest.mark.parametrize("name", ["sform of NaN", "edge of NaN", "voxels at 0", "too long", "bits", "colors"])
def test_header_of_a_label_is_refused(name, source, convert, assert_refused):
    mutation, fragment = REFUSED[name]
    mutate(source / "b_label.nii", mutation)
    assert_refused(convert(), source / "b_label.nii", fragment)


@pytest.mark.parametrize("name", ACCEPTED)
def test_header_is_accepted(name, source, convert, raw):
    path = source / "b_image.nii"
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    mutate(path, ACCEPTED[name])
    if name == "slope 2":
        expected = 2 * expected - 5
    outcome = convert()
    assert outcome.code == 0, outcome.err
    image = sitk.ReadImage(raw / "Dataset502_Test/imagesTr/CT_b_0000.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
    np.testing.assert_allclose(image.GetSpacing(), SPACING, rtol=1e-6)


def test_big_endian_is_accepted(source, convert, raw):
    path = source / "b_image.nii"
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    image = nibabel.load(path)
    header = image.header.as_byteswapped(">")
    nibabel.Nifti1Image(expected.T, image.affine, header).to_filename(path)
    assert path.read_bytes()[:4] == b"\0\0\1\x5c"
    assert convert().code == 0
    written = sitk.ReadImage(raw / "Dataset502_Test/imagesTr/CT_b_0000.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), expected)


def test_unknown_orientation_is_kept_with_a_notice(source, convert):
    for name in ("image", "label"):
        mutate(source / f"b_{name}.nii", edit(**NO_FORM))
    outcome = convert("--orientation", "keep")
    assert outcome.code == 0, outcome.err
    assert "the header does not say how the axes lie in the patient; kept as they are: CT_b." in outcome.out
