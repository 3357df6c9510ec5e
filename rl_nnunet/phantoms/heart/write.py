"""Writes cases of the phantom as MM-WHS 2017 ships its own: folders, file names, label values and headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rl_nnunet.phantoms.heart.cases import Modality, draw_orientation, make_heart_case
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.phantoms.heart.tissues import raw_labels
from rl_nnunet.phantoms.volumes import to_sitk
from rl_nnunet.scans import write_volume

FIRST_TRAINING_NUMBER, FIRST_TEST_NUMBER = 1001, 2001


@dataclass(frozen=True)
class HeartJob:
    """What a worker needs to know to make one case.

    Parameters
    ----------
    modality : {"ct", "mr"}
        What to make an image of.
    number : int
        1001 and up for labeled cases, 2001 and up for test cases.
    reoriented : bool
        Store it in another orientation than LPS.
    labeled : bool
        Write the labels, too.
    seed, paired, rotate, config
        See `rl_nnunet.phantoms.heart.cases.make_heart_case`.
    """

    modality: Modality
    number: int
    reoriented: bool
    labeled: bool
    seed: int
    paired: bool
    rotate: bool
    config: HeartPhantomConfig

    @property
    def split(self) -> str:
        """Return ``train`` or ``test``."""
        return "train" if self.number < FIRST_TEST_NUMBER else "test"

    @property
    def folder(self) -> str:
        """Return the name of the folder of the image."""
        return f"{self.modality}_{self.split}"

    @property
    def name(self) -> str:
        """Return the start of the file names, for example ``ct_train_1001``."""
        return f"{self.folder}_{self.number}"


@dataclass(frozen=True)
class WrittenHeartCase:
    """What was written: size and spacing (mm) in file order, orientation letters, and the rotation of the content."""

    job: HeartJob
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    rotation: np.ndarray


def plan_heart_jobs(
    seed: int,
    cases: int,
    test_cases: int,
    config: HeartPhantomConfig,
    paired: bool = False,
    paired_test: bool = False,
    rotate_mr: bool = False,
    test_labels: bool = False,
) -> list[HeartJob]:
    """Return the jobs of a whole data set, in the order of the summary."""
    jobs = []
    for first, count, split in ((FIRST_TRAINING_NUMBER, cases, "train"), (FIRST_TEST_NUMBER, test_cases, "test")):
        for modality, share in (("ct", config.ct_reoriented), ("mr", config.mr_reoriented)):
            labeled = split == "train" or test_labels
            same_heart = paired or (paired_test and split == "test")
            rotate = rotate_mr and modality == "mr"
            for i in range(count):
                # Exactly the share of the cases, evenly spread. A rotation is described by its arrays as they are
                # stored, so nothing is reoriented there.
                reoriented = not rotate_mr and int((i + 1) * share) > int(i * share)
                jobs.append(HeartJob(modality, first + i, reoriented, labeled, seed, same_heart, rotate, config))
    return jobs


def write_heart_case(root: Path, job: HeartJob) -> WrittenHeartCase:
    """Make one case and write it below `root`, whose folders exist."""
    case = make_heart_case(job.seed, job.modality, job.number, job.paired, job.rotate, job.config)
    orientation = draw_orientation(job.seed, job.modality, job.number) if job.reoriented else "LPS"
    image = sitk.DICOMOrient(to_sitk(case.image, case.grid), orientation)
    write_volume(image, root / job.folder / f"{job.name}_image.nii.gz")
    if job.labeled:
        labels = sitk.DICOMOrient(to_sitk(raw_labels(case.labels), case.grid), orientation)
        write_volume(labels, root / job.folder / f"{job.name}_label.nii.gz")
    return WrittenHeartCase(job, image.GetSize(), image.GetSpacing(), orientation, case.rotation)
