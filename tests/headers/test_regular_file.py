"""What is no file is refused before it is opened, which could wait for ever."""

import os

import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.grids import read_grid
from rl_nnunet.headers.regular_file import check_regular
from rl_nnunet.scans import check_file, read_volume

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")


@pytest.mark.parametrize("open_it", [check_regular, check_file, read_grid, read_volume])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices(tmp_path, make, open_it):
    path = tmp_path / "scan.nii.gz"
    make(path)
    with pytest.raises(InputError, match="scan.nii.gz is not a file"):
        open_it(path)


@pytest.mark.parametrize("open_it", [check_file, read_grid, read_volume])
def test_links_to_nothing_are_left_to_the_reader(tmp_path, open_it):
    path = tmp_path / "scan.nii.gz"
    path.symlink_to(path)
    check_regular(path)
    with pytest.raises(InputError, match="scan.nii.gz"):
        open_it(path)
