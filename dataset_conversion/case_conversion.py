"""Converting single cases: read, check, reorient, write, report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from rl_nnunet import scans
from rl_nnunet.dataset_conversion import hounsfield
from rl_nnunet.dataset_conversion.cases import Case, LabelScheme
from rl_nnunet.dataset_conversion.label_files import read_label_map, read_masks
from rl_nnunet.dataset_conversion.spacing_option import correct_spacing
from rl_nnunet.errors import InputError
from rl_nnunet.label_maps import milliliters
from rl_nnunet.parallel import errors_in, report_on_all

FILE_ENDING = ".nii.gz"


@dataclass(frozen=True)
class CaseSettings:
    """What is the same for every case: where it goes, and how."""

    folder: Path
    channel_names: tuple[str, ...]
    labels: LabelScheme
    orientation: str

    def is_ct(self, channel: int) -> bool:
        """Tell whether nnU-Net will normalize a channel as it does CT, because of its name."""
        from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
        from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme

        return get_normalization_scheme(self.channel_names[channel]) is CTNormalization


@dataclass
class CaseReport:
    """What became of one case.

    Parameters
    ----------
    case : Case
        The case.
    size, spacing : tuple
        Of the written images, in SimpleITK's axis order; spacing in mm.
    found_orientation : str
        Orientation code of the first image as it was found.
    milliliters : dict of str to float
        Volume of each structure (label or region) that occurs.
    notices : list of str
        What was mended.
    written : bool
        Whether the case is in the data set.
    error : str
        The sentence if the case cannot be used.
    """

    case: Case
    size: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    found_orientation: str = ""
    milliliters: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    written: bool = True
    error: str = ""

    @property
    def name(self) -> str:
        """The case's identifier."""
        return self.case.identifier


def convert_cases(cases: Sequence[Case], settings: CaseSettings, processes: int) -> list[CaseReport]:
    """Convert all cases and return their reports, in the order of the cases.

    Raises
    ------
    InputError
        If a case cannot be used: the sentence on the first one, and which others cannot.
    """
    return report_on_all(partial(convert_case, settings=settings), cases, processes, "Converting")


def convert_case(case: Case, settings: CaseSettings) -> CaseReport:
    """Convert one case; a case that cannot be used comes back as a report with its sentence."""
    report = CaseReport(case)
    with errors_in(report, f"the case {case.identifier}", _unwritable):
        _convert(case, settings, report)
    return report


def _unwritable(error: OSError) -> str:
    """Return the sentence for a failed write."""
    return (
        f"The data set cannot be written below nnUNet_raw={os.environ.get('nnUNet_raw')} ({error.strerror}); "
        "free space, or mend the permissions."
    )


def _convert(case: Case, settings: CaseSettings, report: CaseReport) -> None:
    (first_channel, first_path), *others = case.images.items()
    first = _read_image(first_channel, first_path, settings, report)
    correction = _correct_spacing(first, case)
    if correction:
        report.notices.append(f"the spacing of {correction}")
    report.found_orientation = scans.orientation_code(first)
    images = {first_channel: scans.orient(first, settings.orientation)}
    reference = images[first_channel]
    report.size, report.spacing = reference.GetSize(), reference.GetSpacing()
    for channel, path in others:
        image = _read_image(channel, path, settings, report)
        _correct_spacing(image, case)
        if case.resample:
            images[channel] = scans.resample_like(image, reference)
        else:
            if scans.take_geometry(image, path, first, first_path):
                report.notices.append("geometry of a channel taken from the first channel")
            images[channel] = scans.orient(image, settings.orientation)
    if any(scans.is_blank(image) for image in images.values()):
        report.written = False
        report.notices.append("left out, because its scans do not overlap in space")
        return
    label = _convert_label(case, settings, first, report)
    suffix = "Ts" if case.is_test else "Tr"
    for channel in range(len(settings.channel_names)):
        image = images[channel] if channel in images else scans.blank_like(reference)
        path = settings.folder / f"images{suffix}" / f"{case.identifier}_{channel:04d}{FILE_ENDING}"
        scans.write_volume(image, path)
    if label is not None:
        scans.write_volume(label, settings.folder / f"labels{suffix}" / f"{case.identifier}{FILE_ENDING}")


def _read_image(channel: int, path: Path, settings: CaseSettings, report: CaseReport) -> sitk.Image:
    """Read an image, and note what its header leaves open and what its values contradict."""
    image = scans.read_image(path)
    if not scans.states_orientation(path):
        if settings.orientation != "keep":
            raise InputError(
                f"{path} does not say how its axes lie in the patient (both form codes are 0), so it cannot be "
                f"brought to {settings.orientation}; mend its header, or add --orientation keep."
            )
        report.notices.append("the header does not say how the axes lie in the patient; kept as they are")
    reason = hounsfield.why_impossible(image) if settings.is_ct(channel) else ""
    if reason:
        report.notices.append(
            f"nnU-Net will normalize the channel {settings.channel_names[channel]} as CT because of its name, but its "
            f"values cannot be Hounsfield units ({reason}): if it is CT, undo the offset or scale; if not, rename it"
        )
    return image


def _correct_spacing(volume: sitk.Image, case: Case) -> str:
    """Give a volume the spacing that is known of the case; return what changed."""
    return correct_spacing(volume, case.spacing) if case.spacing else ""


def _convert_label(case: Case, settings: CaseSettings, image: sitk.Image, report: CaseReport) -> sitk.Image | None:
    if case.label is None:
        return None
    if case.masks:
        label, notices = read_masks(case.masks, settings.labels)
    else:
        label, notices = read_label_map(case.label, case.label_scheme or settings.labels)
    report.notices += notices
    _correct_spacing(label, case)
    if scans.take_geometry(label, case.label, image, next(iter(case.images.values()))):
        report.notices.append("geometry of the label taken from its image")
    report.milliliters = milliliters(label, settings.labels.structures)
    return scans.orient(label, settings.orientation)
