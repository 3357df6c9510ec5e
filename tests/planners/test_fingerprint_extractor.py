import json

import nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor as stock
import numpy as np
import pytest

from rl_nnunet.errors import InputError
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
    assert fingerprint["rl_nnunet"] == {"cases_per_branch": {"CT": ["ct_1", "ct_2"], "MRI": ["mri_1", "mri_2"]}}
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

    with pytest.raises(InputError, match="No case of Dataset001_Unpaired has the branch MRI"):
        extract("Dataset001_Unpaired")


class TestExistingFingerprint:
    @pytest.fixture(autouse=True)
    def _without_work(self, write_dataset, unpaired_cases, fingerprint_file, monkeypatch):
        """Replace nnU-Net's own extraction, so that only what ours makes of it is tested."""
        write_dataset("Dataset001_Unpaired", unpaired_cases, BRANCHES)
        fingerprint_file.parent.mkdir()
        monkeypatch.setattr(
            PresentChannelsFingerprintExtractor, "_examine_cases", lambda self: dict.fromkeys(BRANCHES, ["ct_1"])
        )
        self.fails_after = 0

        def stock_run(extractor, overwrite_existing=False):
            if len(extractor.dataset) <= self.fails_after:
                fingerprint_file.write_text('{"spacings": [')
                raise KeyboardInterrupt
            statistics = {"0": {"mean": len(extractor.dataset)}, "1": {"mean": len(extractor.dataset)}}
            fingerprint_file.write_text(json.dumps({STATISTICS: statistics}))

        monkeypatch.setattr(stock.DatasetFingerprintExtractor, "run", stock_run)

    def test_ours_is_taken(self, fingerprint_file):
        existing = {"spacings": [], "rl_nnunet": {"cases_per_branch": {}}}
        fingerprint_file.write_text(json.dumps(existing))
        assert extract("Dataset001_Unpaired") == existing

    def test_ours_is_made_anew_if_asked(self, fingerprint_file):
        fingerprint_file.write_text(json.dumps({"spacings": [], "rl_nnunet": {"cases_per_branch": {}}}))
        assert extract("Dataset001_Unpaired", overwrite=True)[STATISTICS]["0"]["mean"] == 1

    @pytest.mark.parametrize("content", ['{"spacings": []}', '{"spacings": [', ""])
    def test_foreign_or_broken_one_is_made_anew(self, fingerprint_file, capsys, content):
        fingerprint_file.write_text(content)
        assert "rl_nnunet" in extract("Dataset001_Unpaired")
        assert "Extracting it anew" in capsys.readouterr().out

    @pytest.mark.parametrize("fails_after", [1, 4], ids=["in the second pass", "in the first pass"])
    def test_interrupted_run_leaves_nothing_that_could_be_taken_for_ours(self, fingerprint_file, fails_after):
        fingerprint_file.write_text(json.dumps({"spacings": [], "rl_nnunet": {"cases_per_branch": {}}}))
        self.fails_after = fails_after
        with pytest.raises(KeyboardInterrupt):
            extract("Dataset001_Unpaired", overwrite=True)
        assert list(fingerprint_file.parent.iterdir()) == []
