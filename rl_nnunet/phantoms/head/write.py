"""Writes cases of the phantom head as BraTS ships its own: folders, file names, label values and headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rl_nnunet.phantoms.head.cases import make_head_case
from rl_nnunet.phantoms.head.config import SEQUENCES
from rl_nnunet.phantoms.head.layout import PHANTOM_NOTE, HeadJob
from rl_nnunet.phantoms.head.tissues import NECROSIS_LABEL
from rl_nnunet.phantoms.volumes import to_sitk
from rl_nnunet.scans import write_volume


@dataclass(frozen=True)
class WrittenHeadCase:
    """What was written.

    Parameters
    ----------
    job : HeadJob
        Which case.
    size, spacing : tuple
        Voxels, and mm, in file order.
    orientation : str
        Its letters.
    core_ml : float
        Volume of the tumor core: of what is enhancing or necrotic.
    """

    job: HeadJob
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    core_ml: float


def write_head_case(root: Path, job: HeadJob) -> WrittenHeadCase:
    """Make one case and write it below `root`."""
    case = make_head_case(job)
    folder = root / job.folder / job.name
    folder.mkdir(parents=True)
    arrays = [case.images[sequence] for sequence in SEQUENCES]
    if job.labeled:
        arrays.append(case.labels.astype(job.layout.label_type))
    for array, name in zip(arrays, job.file_names, strict=False):
        image = to_sitk(array, case.grid)
        image.SetMetaData("ITK_FileNotes", PHANTOM_NOTE)
        write_volume(image, folder / name)
    core = np.isin(case.labels, (NECROSIS_LABEL, job.layout.enhancing))
    core_ml = float(np.count_nonzero(core) * np.prod(case.grid.spacing) / 1000)
    return WrittenHeadCase(job, image.GetSize(), image.GetSpacing(), "LPS", core_ml)
