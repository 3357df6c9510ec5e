"""Paired data for several test modules."""

import pytest
import SimpleITK as sitk


@pytest.fixture(scope="session")
def tumors(tmp_path_factory, make_project):
    """Phantom tumors, of which the second test case lacks FLAIR, planned for the agents' network, by the commands."""
    project = make_project(tmp_path_factory.mktemp("tumors"), "Dataset903_Tumors")
    phantom = project.root / "phantom"
    project.run(
        "rl_nnunet_make_phantom", "brats", "-o", phantom, "--cases", 5, "--test_cases", 2, "--size", 24,
        "--test_labels", "-np", 1,
    )  # fmt: skip
    project.run("rl_nnunet_convert_brats", "-i", phantom, "-d", project.id, "-n", "Tumors", "-np", 1)
    flair = sorted((project.raw / "imagesTs").glob("*_0003.nii.gz"))[1]
    sitk.WriteImage(sitk.ReadImage(flair) * 0, flair)
    project.plan("IntraInterSmallPlanner")
    return project
