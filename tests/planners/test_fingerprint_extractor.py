import json
import os
import shutil

import nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor as stock
import numpy as np
import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.planners.case_examination import CaseFindings
from rl_nnunet.planners.fingerprint_extractor import PresentChannelsFingerprintExtractor

BRANCHES = {"CT": ["CT"], "MRI": ["MRI"]}
STATISTICS = "foreground_intensity_properties_per_channel"


def extract(name, overwrite=False):
    extractor = PresentChannelsFingerprintExtractor(name, num_processes=2)
    extractor.show_progress_bar = False
    return extractor.run(overwrite)


def foreground(cases, channel):
    present = [(channels[channel], seg) for channels, seg in cases.values() if channels[channel].any()]
    return np.concatenate([channel[seg > 0] for channel, seg in present]).astype(float)


@pytest.fixture
def fingerprint_file(nnunet_folders):
    return nnunet_folders / "nnUNet_preprocessed" / "Dataset001_Unpaired" / "dataset_fingerprint.json"


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_statistics_come_from_the_cases_that_have_the_channel(write_dataset, unpaired_cases, fingerprint_file):
    write_dataset("Dataset001_Unpaired", unpaired_cases, BRANCHES)
    fingerprint = extract("Dataset001_Unpaired")

    for channel in (0, 1):
        voxels = foreground(unpaired_cases, channel)
        found = fingerprint[STATISTICS][str(channel)]
        # nnU-Net samples the voxels; all that can be drawn are these, so that the extremes are met closely.
        standard_error = voxels.std() / np.sqrt(len(voxels))
        assert found["mean"] == pytest.approx(voxels.mean(), abs=4 * standard_error)
        assert found["median"] == pytest.approx(np.median(voxels), abs=6 * standard_error)
        assert found["std"] == pytest.approx(voxels.std(), rel=0.1)
        assert found["percentile_00_5"] == pytest.approx(np.percentile(voxels, 0.5), abs=voxels.std() / 2)
        assert found["percentile_99_5"] == pytest.approx(np.percentile(voxels, 99.5), abs=voxels.std() / 2)
        assert {found["min"], found["max"]} <= {float(voxel) for voxel in voxels}
    assert len(fingerprint["spacings"]) == len(fingerprint["shapes_after_crop"]) == 4
    ours = fingerprint["rl_nnunet"]
    assert ours["cases_per_branch"] == {"CT": ["ct_1", "ct_2"], "MRI": ["mri_1", "mri_2"]}
    assert ours["branches"] == {"CT": [0], "MRI": [1]}
    assert [len(files) for files in ours["files"].values()] == [3] * 4
    assert json.loads(fingerprint_file.read_text()) == fingerprint
    assert [file.name for file in fingerprint_file.parent.iterdir()] == [fingerprint_file.name]


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_ct_statistics_equal_those_of_a_ct_data_set(write_dataset, unpaired_cases):
    write_dataset("Dataset001_Unpaired", unpaired_cases, BRANCHES)
    ct_only = {name: (channels[:1], seg) for name, (channels, seg) in unpaired_cases.items() if name.startswith("ct")}
    write_dataset("Dataset002_CT", ct_only, {"CT": ["CT"]})
    extractor = stock.DatasetFingerprintExtractor("Dataset002_CT", num_processes=2)
    extractor.num_foreground_voxels_for_intensitystats = 4 * 12**3  # as many as the other data set has voxels

    assert extract("Dataset001_Unpaired")[STATISTICS]["0"] == extractor.run()[STATISTICS][0]


@pytest.mark.usefixtures("fingerprint_in_threads")
def test_one_pass_where_every_case_has_every_branch(write_dataset, unpaired_cases, monkeypatch):
    paired = {name: (np.stack([channels.sum(0)] * 2), seg) for name, (channels, seg) in unpaired_cases.items()}
    write_dataset("Dataset001_Paired", paired, BRANCHES, "paired")
    passes = []
    run_on = PresentChannelsFingerprintExtractor._run_on
    monkeypatch.setattr(
        PresentChannelsFingerprintExtractor,
        "_run_on",
        lambda self, cases: passes.append(cases) or run_on(self, cases),
    )

    assert extract("Dataset001_Paired")["rl_nnunet"]["cases_per_branch"]["CT"] == list(paired)
    assert passes == [list(paired)]


def test_branch_that_no_case_has(write_dataset, unpaired_cases):
    """Also the test that the extractor's own work is done in spawned processes, from which the answer comes back."""
    ct_only = {name: case for name, case in unpaired_cases.items() if name.startswith("ct")}
    write_dataset("Dataset001_Unpaired", ct_only, BRANCHES)

    with pytest.raises(InputError, match="No case has the branch MRI"):
        extract("Dataset001_Unpaired")


class TestExistingFingerprint:
    @pytest.fixture(autouse=True)
    def _without_work(self, write_dataset, unpaired_cases, fingerprint_file, monkeypatch):
        """Replace nnU-Net's own extraction, so that only what ours makes of it is tested."""
        self.folder = write_dataset("Dataset001_Unpaired", unpaired_cases, BRANCHES)
        fingerprint_file.parent.mkdir()

        def examine(extractor):
            return {
                str(case): CaseFindings((0.0, None) if case.startswith("mri") else (None, 0.0), 8, True)
                for case in extractor.dataset
            }

        monkeypatch.setattr(PresentChannelsFingerprintExtractor, "_examine_cases", examine)
        self.fails_after = 0

        def stock_run(extractor, overwrite_existing=False):
            if len(extractor.dataset) <= self.fails_after:
                fingerprint_file.write_text('{"spacings": [')
                raise KeyboardInterrupt
            statistics = {"0": {"mean": len(extractor.dataset)}, "1": {"mean": len(extractor.dataset)}}
            fingerprint_file.write_text(json.dumps({STATISTICS: statistics}))

        monkeypatch.setattr(stock.DatasetFingerprintExtractor, "run", stock_run)

    @pytest.fixture
    def marked(self, fingerprint_file):
        """Extract a fingerprint and mark it, so that it is told from a new one."""
        marked = {**extract("Dataset001_Unpaired"), "mark": 1}
        fingerprint_file.write_text(json.dumps(marked))
        return marked

    def test_ours_is_taken(self, marked):
        assert extract("Dataset001_Unpaired") == marked

    @pytest.mark.usefixtures("marked")
    def test_ours_is_made_anew_if_asked(self):
        assert extract("Dataset001_Unpaired", overwrite=True)[STATISTICS]["0"]["mean"] == 2

    @pytest.mark.parametrize(
        "content", ['{"spacings": []}', '{"spacings": [', "", "[]", '{"rl_nnunet": {"cases_per_branch": {}}}']
    )
    def test_foreign_or_broken_one_is_made_anew(self, fingerprint_file, capsys, content):
        fingerprint_file.write_text(content)
        assert "rl_nnunet" in extract("Dataset001_Unpaired")
        assert "Extracting it anew" in capsys.readouterr().out

    @pytest.mark.usefixtures("marked")
    def test_removed_case(self, capsys):
        for file in self.folder.rglob("ct_2*"):
            file.unlink()
        assert "mark" not in extract("Dataset001_Unpaired")
        assert "not those of its fingerprint: 1 gone (first ct_2). Extracting it anew." in capsys.readouterr().out

    @pytest.mark.usefixtures("marked")
    def test_new_case(self, capsys):
        for file in list(self.folder.rglob("mri_2*")):
            shutil.copy(file, file.with_name(file.name.replace("mri_2", "mri_3")))
        assert extract("Dataset001_Unpaired")["rl_nnunet"]["cases_per_branch"]["MRI"] == ["mri_1", "mri_2", "mri_3"]
        assert "1 new (first mri_3)" in capsys.readouterr().out

    @pytest.mark.parametrize("file", ["imagesTr/ct_1_0000.nii.gz", "labelsTr/ct_1.nii.gz"])
    @pytest.mark.usefixtures("marked")
    def test_changed_file(self, capsys, file):
        os.utime(self.folder / file, (0, 0))
        assert "mark" not in extract("Dataset001_Unpaired")
        assert "1 changed (first ct_1)" in capsys.readouterr().out

    @pytest.mark.usefixtures("marked")
    def test_changed_branches(self, capsys):
        description = json.loads((self.folder / "dataset.json").read_text())
        description["rl_nnunet"]["branches"] = {"Computed": ["CT"], "Magnetic": ["MRI"]}
        (self.folder / "dataset.json").write_text(json.dumps(description))
        assert set(extract("Dataset001_Unpaired")["rl_nnunet"]["cases_per_branch"]) == {"Computed", "Magnetic"}
        assert "the branches of Dataset001_Unpaired are not those" in capsys.readouterr().out

    @pytest.mark.parametrize("fails_after", [2, 4], ids=["in the second pass", "in the first pass"])
    def test_interrupted_run_leaves_nothing_that_could_be_taken_for_ours(self, fingerprint_file, fails_after):
        fingerprint_file.write_text(json.dumps({"spacings": [], "rl_nnunet": {"cases_per_branch": {}}}))
        self.fails_after = fails_after
        with pytest.raises(KeyboardInterrupt):
            extract("Dataset001_Unpaired", overwrite=True)
        assert list(fingerprint_file.parent.iterdir()) == []
