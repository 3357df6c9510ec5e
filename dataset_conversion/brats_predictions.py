"""Writing predictions with the label values of BraTS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

from rl_nnunet import label_maps, scans
from rl_nnunet.dataset_conversion.brats import BratsYear
from rl_nnunet.errors import InputError
from rl_nnunet.files import new_folder
from rl_nnunet.parallel import errors_in, report_on_all

PREDICTIONS_KIND = "predictions with the label values of BraTS"


@dataclass
class PredictionReport:
    """What became of one prediction: its file name, the volume of each region that occurs, the sentence if bad."""

    name: str
    milliliters: dict[str, float] = field(default_factory=dict)
    error: str = ""


def write_predictions(
    predictions: Sequence[Path], output: Path, year: BratsYear, processes: int, *, overwrite: bool = False
) -> str:
    """Write predictions with the values of BraTS to a new folder, and return a summary.

    Parameters
    ----------
    predictions : sequence of Path
        Label maps with nnU-Net's values.
    output : Path
        The folder to be.
    year : BratsYear
        The year whose values they get.
    processes : int
        Number of processes.
    overwrite : bool
        Replace a folder that an earlier call wrote and that holds nothing else.

    Raises
    ------
    InputError
        If a prediction cannot be used, or the folder cannot be written; nothing is left behind then.
    """
    with new_folder(output, PREDICTIONS_KIND, overwrite=overwrite) as folder:
        work = partial(convert_prediction, folder=folder, year=year)
        reports = report_on_all(work, predictions, processes, "Converting")
    means = ", ".join(
        f"{region.replace('_', ' ')} {fmean(report.milliliters.get(region, 0.0) for report in reports):.3g}"
        for region in year.labels.structures
    )
    count = f"{len(reports)} case{'s' * (len(reports) != 1)}"
    return f"{count} with the label values of BraTS {year.year}; mean volumes in ml: {means}."


def convert_prediction(path: Path, folder: Path, year: BratsYear) -> PredictionReport:
    """Convert one prediction; one that cannot be used comes back as a report with its sentence."""
    report = PredictionReport(path.name)
    inverse, names = year.labels.inverse, year.labels.names
    with errors_in(report, str(path), partial(_unwritable, path.name)):
        converted, unknown = label_maps.map_values(scans.read_volume(path), inverse)
        if unknown:
            known = ", ".join(f"{name} {value}" for name, value in names.items())
            raise InputError(
                f"{path} holds the value {unknown}, which predictions of BraTS {year.year} do not have ({known}); "
                "predict it again, or correct --year."
            )
        regions = {name: tuple(inverse[label] for label in labels) for name, labels in year.labels.structures.items()}
        report.milliliters = label_maps.milliliters(converted, regions)
        scans.write_volume(converted, folder / path.name)
    return report


def _unwritable(name: str, error: OSError) -> str:
    return f"{name} cannot be written ({error.strerror}); free space, or mend the permissions."
