"""Label maps that a reader of nnU-Net's has read."""

from pathlib import Path

import numpy as np
import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.label_maps import check_labels, label_values

FILE = Path("map.nii.gz")


def test_known_values_are_those_of_labels_regions_and_what_is_ignored():
    assert label_values([1, (2, 3)], None) == {0, 1, 2, 3}
    assert label_values([(1, 2), 2], 4) == {0, 1, 2, 4}


def test_labels_are_whole_numbers_but_for_rounding():
    values = np.array([[0, 1.01, 1.99]], np.float32)
    np.testing.assert_array_equal(check_labels(FILE, values, {0, 1, 2}), [[0, 1, 2]])


@pytest.mark.parametrize(
    ("values", "known", "fragment"),
    [
        ([0, 0.5], None, "not whole numbers"),
        ([0, np.nan], None, "not whole numbers"),
        ([0, np.inf], None, "not whole numbers"),
        ([-1024, 0], None, "values from -1024 to 0"),
        ([0, 1e9], None, "values from 0 to 1e+09"),
        (np.arange(2000), None, "2000 different values"),
        ([0, 1, 7], {0, 1}, "the label values 7, which dataset.json does not name"),
        (np.arange(9), {0, 1}, "the label values 2, 3, 4, 5, 6, ..., which"),
    ],
)
def test_what_is_no_label_map_is_refused(values, known, fragment):
    with pytest.raises(InputError, match="^map.nii.gz") as caught:
        check_labels(FILE, np.array(values, np.float32), known)
    assert fragment in str(caught.value)
