"""How BraTS ships each year's cases: folders, file names, label values. Free of imports that cost time."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from rl_nnunet.phantoms.head.config import Grade, HeadPhantomConfig, SequenceName

# The last training case of 2020, whose segmentation is shipped under another name.
MISNAMED_NUMBER, MISNAMED_SEGMENTATION = 355, "W39_1998.09.19_Segm.nii"
FIRST_VISIT = 100
# In the header of every image: names and folders are those of real data.
PHANTOM_NOTE = "Phantom of rl_nnunet"


@dataclass(frozen=True)
class Layout:
    """The layout of one year.

    Parameters
    ----------
    training, validation : str
        Folders of the labeled and the unlabeled cases.
    training_name, validation_name : str
        Templates of a case's name, filled with its ``number`` and ``visit``.
    first_training, first_validation : int
        The lowest numbers.
    suffixes : tuple of str
        How the file names of `SEQUENCES` end, and that of the segmentation.
    ending : str
        The file format.
    separator : str
        Between the name and the suffix.
    label_type : str
        Data type of the segmentations.
    enhancing : int
        Label of the enhancing tumor; necrosis is 1 and edema is 2 in all years.
    cavity : int
        Label of the resection cavity; 0 where it is not labeled.
    by_grade : bool
        Training cases lie in the sub-folders ``HGG`` and ``LGG``.
    treated : bool
        Patients had surgery; some of them come with two time points.
    """

    training: str
    validation: str
    training_name: str
    validation_name: str
    first_training: int = 1
    first_validation: int = 1
    suffixes: tuple[str, ...] = ("t1", "t1ce", "t2", "flair", "seg")
    ending: str = ".nii.gz"
    separator: str = "_"
    label_type: str = "uint8"
    enhancing: int = 4
    cavity: int = 0
    by_grade: bool = False
    treated: bool = False


_RECENT = {"suffixes": ("t1n", "t1c", "t2w", "t2f", "seg"), "separator": "-", "label_type": "float32", "enhancing": 3}

LAYOUTS = {
    2018: Layout(
        "MICCAI_BraTS_2018_Data_Training",
        "MICCAI_BraTS_2018_Data_Validation",
        "Brats18_TCIA01_{number:03d}_1",
        "Brats18_TCIA02_{number:03d}_1",
        by_grade=True,
    ),
    2019: Layout(
        "MICCAI_BraTS_2019_Data_Training",
        "MICCAI_BraTS_2019_Data_Validation",
        "BraTS19_TCIA01_{number:03d}_1",
        "BraTS19_TCIA02_{number:03d}_1",
        label_type="int16",
        by_grade=True,
    ),
    2020: Layout(
        "MICCAI_BraTS2020_TrainingData",
        "MICCAI_BraTS2020_ValidationData",
        "BraTS20_Training_{number:03d}",
        "BraTS20_Validation_{number:03d}",
        ending=".nii",
        label_type="float32",
    ),
    2021: Layout(
        "BraTS2021_Training_Data",
        "BraTS2021_ValidationData",
        "BraTS2021_{number:05d}",
        "BraTS2021_{number:05d}",
        first_training=0,
        first_validation=1001,
    ),
    2023: Layout(
        "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData",
        "ASNR-MICCAI-BraTS2023-GLI-Challenge-ValidationData",
        "BraTS-GLI-{number:05d}-000",
        "BraTS-GLI-{number:05d}-000",
        first_training=0,
        first_validation=1001,
        **_RECENT,
    ),
    2024: Layout(
        "training_data1_v2",
        "validation_data",
        "BraTS-GLI-{number:05d}-{visit}",
        "BraTS-GLI-{number:05d}-{visit}",
        first_training=1000,
        first_validation=2000,
        cavity=4,
        treated=True,
        **_RECENT,
    ),
}
YEARS = tuple(LAYOUTS)


@dataclass(frozen=True)
class HeadJob:
    """What a worker needs to know to make one case.

    Parameters
    ----------
    year : int
        One of `YEARS`.
    number : int
        The patient's number, as in the name of the case.
    visit : int
        The time point; `FIRST_VISIT` unless the layout has several.
    training : bool
        Training or validation.
    labeled : bool
        Write the segmentation, too.
    grade : {"HGG", "LGG"}
        High- or low-grade glioma.
    noise_sequence : str or None
        See `rl_nnunet.phantoms.head.dataset.write_head_dataset`.
    seed : int
        Seed of the data set.
    config : HeadPhantomConfig
        What heads and images look like.
    """

    year: int
    number: int
    visit: int
    training: bool
    labeled: bool
    grade: Grade
    noise_sequence: SequenceName | None
    seed: int
    config: HeadPhantomConfig

    @property
    def layout(self) -> Layout:
        """Return the layout of the year."""
        return LAYOUTS[self.year]

    @property
    def top_folder(self) -> str:
        """Return the folder of the training or of the validation data."""
        return self.layout.training if self.training else self.layout.validation

    @property
    def folder(self) -> str:
        """Return the folder that the case's own folder lies in."""
        return f"{self.top_folder}/{self.grade}" if self.training and self.layout.by_grade else self.top_folder

    @property
    def name(self) -> str:
        """Return the name of the case, for example ``BraTS2021_00000``."""
        template = self.layout.training_name if self.training else self.layout.validation_name
        return template.format(number=self.number, visit=self.visit)

    @property
    def file_names(self) -> list[str]:
        """Return the names of the images in the order of `SEQUENCES`, then that of the segmentation."""
        layout = self.layout
        names = [f"{self.name}{layout.separator}{suffix}{layout.ending}" for suffix in layout.suffixes]
        if self.year == 2020 and self.training and self.number == MISNAMED_NUMBER:
            names[-1] = MISNAMED_SEGMENTATION
        return names


def plan_head_jobs(
    year: int,
    cases: int,
    test_cases: int,
    seed: int,
    config: HeadPhantomConfig,
    test_labels: bool = False,
    noise_sequence: SequenceName | None = None,
) -> list[HeadJob]:
    """Return the jobs of a whole data set, training cases first."""
    jobs = []
    layout = LAYOUTS[year]
    for training, count in ((True, cases), (False, test_cases)):
        first = layout.first_training if training else layout.first_validation
        for patient, visit in _patients(count, layout.treated):
            number = first + patient
            if year == 2020 and training and patient == count - 1:
                number = MISNAMED_NUMBER
            grade = _grade(number - first, config.lgg_share)
            labeled = training or test_labels
            jobs.append(HeadJob(year, number, visit, training, labeled, grade, noise_sequence, seed, config))
    return jobs


def _patients(cases: int, treated: bool) -> list[tuple[int, int]]:
    """Return patient and visit of every case; of the treated, every third patient comes twice."""
    if not treated:
        return [(i, FIRST_VISIT) for i in range(cases)]
    return [(i // 4 * 3 + max(0, i % 4 - 1), FIRST_VISIT + (i % 4 == 1)) for i in range(cases)]


def _grade(patient: int, lgg_share: float) -> Grade:
    # Exactly the share of the patients, evenly spread, the first one early: a tiny data set has both grades.
    return "LGG" if floor((patient + 1) * lgg_share + 0.5) > floor(patient * lgg_share + 0.5) else "HGG"
