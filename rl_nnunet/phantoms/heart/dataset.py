"""Writes a whole data set of phantom hearts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rl_nnunet.files import new_folder
from rl_nnunet.parallel import work_on_all
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig

if TYPE_CHECKING:
    from rl_nnunet.phantoms.heart.write import WrittenHeartCase

ROTATIONS_FILE = "rotations.json"
ROTATIONS_CONVENTION = (
    "Signed permutation matrices in array order (z, y, x). With indices counted from the middle of the array: "
    "stored[matrix @ index] == unrotated[index]. "
    "rl_nnunet.phantoms.geometry.rotate_array(stored, transposed matrix) undoes it."
)


def write_heart_dataset(
    output: Path | str,
    cases: int = 20,
    test_cases: int = 0,
    seed: int = 0,
    config: HeartPhantomConfig | None = None,
    *,
    paired: bool = False,
    paired_test: bool = False,
    rotate_mr: bool = False,
    test_labels: bool = False,
    processes: int = 1,
    overwrite: bool = False,
) -> list[WrittenHeartCase]:
    """Write a data set of phantom hearts in the layout of MM-WHS 2017.

    Parameters
    ----------
    output : Path or str
        Folder to write; must not exist, or be empty, unless `overwrite`.
    cases, test_cases : int
        Labeled and unlabeled cases per modality.
    seed : int
        Same seed, same images, whatever `processes`.
    config : HeartPhantomConfig, optional
        Sizes, variation, noise.
    paired : bool
        CT and MR of one number show the same heart, each on its own grid.
    paired_test : bool
        Only those of the test cases do; what is trained on stays unpaired.
    rotate_mr : bool
        Turn the content of every MR by a random rotation of the cube, and write ``rotations.json``; everything is
        stored in the orientation LPS then.
    test_labels : bool
        Write the labels of the test cases beside their images, too; MM-WHS keeps them to itself.
    processes : int
        Worker processes; 1 does the work in this one.
    overwrite : bool
        Replace phantom hearts that are there. A folder that holds anything else, at any depth, is never replaced.

    Returns
    -------
    list of WrittenHeartCase
        What was written, training cases first.

    Raises
    ------
    InputError
        If the folder exists or cannot be written.
    """
    with new_folder(Path(output).expanduser().absolute(), "a phantom of hearts", overwrite=overwrite) as folder:
        # Imported late, so that a folder that cannot be written is reported at once.
        from rl_nnunet.phantoms.heart.write import plan_heart_jobs, write_heart_case

        config = config or HeartPhantomConfig()
        jobs = plan_heart_jobs(seed, cases, test_cases, config, paired, paired_test, rotate_mr, test_labels)
        for name in {job.folder for job in jobs}:
            (folder / name).mkdir()
        written = work_on_all(partial(write_heart_case, folder), jobs, processes, "Making phantoms")
        if rotate_mr:
            _write_rotations(folder / ROTATIONS_FILE, written)
    return written


def _write_rotations(path: Path, written: list[WrittenHeartCase]) -> None:
    rotations = {case.job.name: case.rotation.tolist() for case in written if case.job.rotate}
    path.write_text(json.dumps({"convention": ROTATIONS_CONVENTION, "rotations": rotations}) + "\n")
