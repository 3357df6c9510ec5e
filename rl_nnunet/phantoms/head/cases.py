"""Phantom heads as arrays: the four sequences and the segmentation of a case, as the command writes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rl_nnunet.phantoms.geometry import Grid
from rl_nnunet.phantoms.head.anatomy import HeadShape, sample_head
from rl_nnunet.phantoms.head.appearance import render_sequence
from rl_nnunet.phantoms.head.config import SEQUENCES, SequenceName
from rl_nnunet.phantoms.head.layout import FIRST_VISIT, HeadJob
from rl_nnunet.phantoms.head.render import render_head
from rl_nnunet.phantoms.head.tissues import labels_from_head
from rl_nnunet.phantoms.head.tumor import follow_up

# Every random thing about a case has a stream of its own, so that no option changes more than what it is about.
_PATIENT_STREAM, _FOLLOW_UP_STREAM, CLINICAL_STREAM = 0, 1, 2
_SEQUENCE_STREAM = {"T1": 3, "T1ce": 4, "T2": 5, "FLAIR": 6}
# The corner of the first voxel in BraTS along (z, y, x) in mm: all years and all sizes show the same field of view.
_CORNER = (-0.5, -239.5, -0.5)
# The middle of the field of view in the coordinates of the head: what the brainstem takes is below.
_CENTER_IN_HEAD = (-3.0, 0.0, 0.0)


@dataclass(frozen=True)
class HeadCase:
    """One case, in LPS order.

    Parameters
    ----------
    images : dict of str to numpy.ndarray
        One per sequence, shape (z, y, x), int16, 0 outside of the brain.
    labels : numpy.ndarray
        Shape (z, y, x), uint8, the labels of the year.
    tissues : numpy.ndarray
        Shape (z, y, x), uint8, values of `rl_nnunet.phantoms.head.tissues.HeadTissue`.
    grid : Grid
        Where the voxels lie in the patient.
    """

    images: dict[SequenceName, np.ndarray]
    labels: np.ndarray
    tissues: np.ndarray
    grid: Grid


def make_head_case(job: HeadJob) -> HeadCase:
    """Make one case; it depends on nothing but the job."""
    spacing = (job.config.field_of_view_mm[2] / job.config.size,) * 3
    shape = tuple(max(1, round(extent / s)) for extent, s in zip(job.config.field_of_view_mm, spacing, strict=True))
    tissues = render_head(_patient(job), Grid.around(_CENTER_IN_HEAD, shape, spacing))
    images = {
        sequence: render_sequence(
            tissues,
            sequence,
            stream(job, _SEQUENCE_STREAM[sequence], job.visit),
            job.config,
            noise_only=sequence == job.noise_sequence,
        )
        for sequence in SEQUENCES
    }
    origin = tuple(corner + s / 2 for corner, s in zip(_CORNER, spacing, strict=True))
    labels = labels_from_head(tissues, job.layout.enhancing, job.layout.cavity)
    return HeadCase(images, labels, tissues, Grid(shape, spacing, origin))


def stream(job: HeadJob, purpose: int, visit: int = FIRST_VISIT) -> np.random.Generator:
    """Return the random numbers for one purpose of a case; visits of a patient share those of their first."""
    key = (job.year, int(job.training), job.number, visit, purpose)
    return np.random.default_rng(np.random.SeedSequence(job.seed, spawn_key=key))


def _patient(job: HeadJob) -> HeadShape:
    head = sample_head(stream(job, _PATIENT_STREAM), job.config, job.grade, job.layout.treated)
    if job.visit == FIRST_VISIT:
        return head
    return replace(head, tumor=follow_up(head.tumor, stream(job, _FOLLOW_UP_STREAM, job.visit)))
