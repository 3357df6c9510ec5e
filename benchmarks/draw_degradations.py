"""Draw what degraded training samples look like: a slice of a scan with each damage, at half and at full severity.

rl_nnunet_make_phantom brats -o FOLDER --cases 2 --test_cases 0 --size 128
python benchmarks/draw_degradations.py -i FOLDER/.../*_t2f.nii.gz -o docs/degraded_samples.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import SimpleITK as sitk
import torch

from rl_nnunet.dataloading.degradation import KINDS, OTHER_PATIENT

SEVERITIES = (0.5, 1.0)


def middle_slice(file: Path) -> tuple[torch.Tensor, tuple[float, float]]:
    """Return the middle axial slice of a scan (y, x), standardized where it is not 0, and its spacing in mm."""
    image = sitk.ReadImage(file, sitk.sitkFloat32)
    scan = torch.from_numpy(sitk.GetArrayFromImage(image))[image.GetSize()[2] // 2]
    inside = scan != 0
    scan[inside] = (scan[inside] - scan[inside].mean()) / scan[inside].std()
    return scan, image.GetSpacing()[1::-1]


def main() -> None:
    """Draw a column per damage, a row per severity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--images", type=Path, nargs="+", required=True, help="a scan, and another patient's")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if len(arguments.images) < 2:
        parser.error("-i needs the scans of two patients")
    mpl.use("agg")
    from matplotlib import pyplot as plt

    torch.manual_seed(arguments.seed)
    scan, spacing = middle_slice(arguments.images[0])
    other, _ = middle_slice(arguments.images[1])
    low, high = np.percentile(scan, (0.5, 99.5))
    figure, axes = plt.subplots(2, len(KINDS) + 2, figsize=(12, 4.3), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    pictures = {("sound", 0): scan, (OTHER_PATIENT, len(KINDS) + 1): other}
    for (title, column), picture in pictures.items():
        axes[0, column].imshow(picture, cmap="gray", vmin=low, vmax=high)
        axes[0, column].set_title(title, fontsize="small")
    for column, (kind, degrade) in enumerate(KINDS.items(), start=1):
        for axis, severity in zip(axes[:, column], SEVERITIES, strict=True):
            axis.imshow(degrade(scan, severity, spacing), cmap="gray", vmin=low, vmax=high)
            axis.set_title(f"{kind} {severity:g}", fontsize="small")
    figure.savefig(arguments.output, dpi=80)


if __name__ == "__main__":
    main()
