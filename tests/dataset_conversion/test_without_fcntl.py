"""Where there is no fcntl, as on Windows, the commands' modules are imported and a conversion runs, without locks."""

import os
import subprocess
import sys

import SimpleITK as sitk

CONVERT = """
import sys
sys.modules["fcntl"] = None
from importlib.metadata import entry_points
for entry in entry_points(group="console_scripts"):
    if entry.value.startswith("rl_nnunet."):
        entry.load()
from rl_nnunet.dataset_conversion.convert_mmwhs import main
folder = sys.argv[1]
for flags in ([], ["--overwrite"]):
    sys.argv = ["rl_nnunet_convert_mmwhs", "-i", folder, "-d", "501", "-np", "1", *flags]
    main()
import filelock
assert not filelock.has_fcntl
"""


def test_conversion_without_fcntl(mmwhs, raw):
    run = subprocess.run([sys.executable, "-c", CONVERT, mmwhs], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert os.listdir(raw) == ["Dataset501_MMWHS"]
    assert len(os.listdir(raw / "Dataset501_MMWHS" / "labelsTr")) == 6
    assert sitk.ReadImage(raw / "Dataset501_MMWHS/imagesTr/ct_train_1001_0000.nii.gz").GetSize() == (5, 6, 7)
