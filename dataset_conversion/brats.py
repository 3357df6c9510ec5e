"""What BraTS (multimodal brain tumor segmentation) looks like from year to year: names, sequences, label values."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rl_nnunet.dataset_conversion.cases import LabelScheme

SEQUENCES = ("T1", "T1ce", "T2", "FLAIR")
SEGMENTATION = "segmentation"
_OLD_SUFFIXES = {"T1": "_t1", "T1ce": "_t1ce", "T2": "_t2", "FLAIR": "_flair", SEGMENTATION: "_seg"}
_NEW_SUFFIXES = {"T1": "-t1n", "T1ce": "-t1c", "T2": "-t2w", "FLAIR": "-t2f", SEGMENTATION: "-seg"}
# The entries of dataset.json's key rl_nnunet that are needed to bring predictions back.
YEAR_KEY = "brats_year"


@dataclass(frozen=True)
class BratsYear:
    """One year of BraTS.

    Parameters
    ----------
    year : int
        The year.
    case_pattern : re.Pattern
        What the names of its cases match; the group ``patient`` is the same for all scans of one patient.
    suffixes : dict of str to str
        What follows the name of the case in the file name of every sequence, and of the segmentation.
    enhancing : int
        Value of enhancing tumor on disk.
    post_treatment : bool
        Whether resection cavities are labeled, and a patient may have no tumor left.
    name_column : str
        Column of the name of a case in the tables on survival, in lower case; empty if the year has no tables.
    mapping_column : str
        The same for the tables that map names from year to year, and state the grade.
    includes : tuple of int
        Other years whose cases can be converted together with those of this one, as their files have the same names
        and their labels are some of its labels.
    """

    year: int
    case_pattern: re.Pattern[str]
    suffixes: dict[str, str]
    enhancing: int
    post_treatment: bool = False
    name_column: str = ""
    mapping_column: str = ""
    includes: tuple[int, ...] = ()

    @property
    def labels(self) -> LabelScheme:
        """Values on disk, and the regions for nnU-Net, each of which contains the next but for the cavity."""
        values = {"background": (0,), "edema": (2,), "necrosis": (1,), "enhancing_tumor": (self.enhancing,)}
        regions: dict[str, tuple[int, ...]] = {
            "whole_tumor": (1, 2, 3),
            "tumor_core": (2, 3),
            "enhancing_tumor": (3,),
        }
        if self.post_treatment:
            values["resection_cavity"] = (4,)
            regions["resection_cavity"] = (4,)
        return LabelScheme(values, regions=regions, may_be_empty=self.post_treatment)


def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.IGNORECASE)


YEARS = {
    year.year: year
    for year in (
        # The last number of a name of 2018 and 2019 counts the scans of a patient; without it, BraTS19_Training_Data
        # would be a case.
        BratsYear(
            2018,
            _pattern(r"(?P<patient>BraTS18_[^_]+_.+?)_\d+"),
            _OLD_SUFFIXES,
            4,
            name_column="brats18id",
            mapping_column="brats_2018_subject_id",
        ),
        BratsYear(
            2019,
            _pattern(r"(?P<patient>BraTS19_[^_]+_.+?)_\d+"),
            _OLD_SUFFIXES,
            4,
            name_column="brats19id",
            mapping_column="brats_2019_subject_id",
        ),
        BratsYear(
            2020,
            _pattern(r"(?P<patient>BraTS20_(Training|Validation)_\d+)"),
            _OLD_SUFFIXES,
            4,
            name_column="brats20id",
            mapping_column="brats_2020_subject_id",
        ),
        BratsYear(2021, _pattern(r"(?P<patient>BraTS2021_\d+)"), _OLD_SUFFIXES, 4),
        # The last number is the time point: from 100 on, it is after treatment.
        BratsYear(2023, _pattern(r"(?P<patient>BraTS-GLI-\d+)-0\d\d"), _NEW_SUFFIXES, 3),
        BratsYear(
            2024,
            _pattern(r"(?P<patient>BraTS-GLI-\d+)-[1-9]\d\d"),
            _NEW_SUFFIXES,
            3,
            post_treatment=True,
            includes=(2023,),
        ),
    )
}
# The one file of BraTS that is not named after its case; both in lower case.
MISNAMED_SEGMENTATIONS = {"brats20_training_355": "w39_1998.09.19_segm"}
