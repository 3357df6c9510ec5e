import sys

import pytest

from rl_nnunet.branches import Branch, blank_values, describe_branches, layout_from_dataset_json
from rl_nnunet.errors import InputError, run_command


def dataset_json(channels=("CT", "T1", "T2"), **entry):
    return {"channel_names": {str(i): name for i, name in enumerate(channels)}, **entry}


def test_layout_of_described_branches():
    entry = describe_branches({"MRI": ("T2", "T1"), "CT": ("CT",)}, "unpaired")
    layout = layout_from_dataset_json(dataset_json(rl_nnunet=entry))
    assert layout.branches == (Branch("MRI", (2, 1)), Branch("CT", (0,)))
    assert layout.names == ("MRI", "CT")
    assert layout.channels == ((2, 1), (0,))
    assert layout.pairing == "unpaired"


def test_without_an_entry_every_channel_is_a_paired_branch():
    layout = layout_from_dataset_json(dataset_json())
    assert layout.branches == (Branch("CT", (0,)), Branch("T1", (1,)), Branch("T2", (2,)))
    assert layout.pairing == "paired"


def test_channels_of_one_name_are_told_apart_by_their_number():
    layout = layout_from_dataset_json(dataset_json(("rescale", "rescale")))
    assert layout.names == ("rescale_0", "rescale_1")
    assert layout.channels == ((0,), (1,))


def test_the_old_key_of_nnunet_for_channel_names():
    assert layout_from_dataset_json({"modality": {"0": "CT"}}).branches == (Branch("CT", (0,)),)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (describe_branches({"CT": ["CT"], "MRI": ["T1"]}, "paired"), "every channel exactly once"),
        (describe_branches({"CT": ["CT", "T1"], "MRI": ["T1", "T2"]}, "paired"), "every channel exactly once"),
        (describe_branches({"CT": ["CT"], "MRI": ["T1", "FLAIR"]}, "paired"), "they use .*FLAIR"),
        (describe_branches({"CT": ["CT"], "MRI": ["T1", "T2"]}, "sometimes"), "not 'sometimes'"),
        ({"branches": {"CT": ["CT", "T1", "T2"]}}, "not None"),
    ],
)
def test_unusable_entries(entry, message):
    with pytest.raises(InputError, match=message):
        layout_from_dataset_json(dataset_json(rl_nnunet=entry))


@pytest.mark.parametrize(
    "entry",
    [None, "x", [], {}, {"branches": {}}, {"branches": ["CT", "T1", "T2"], "pairing": "paired"}],
)
def test_entries_of_another_build(entry):
    with pytest.raises(InputError, match='"rl_nnunet" must look like'):
        layout_from_dataset_json(dataset_json(rl_nnunet=entry))


@pytest.mark.parametrize("channels", [[], "CT", ["CT", 1], {"0": "CT"}, None])
def test_branches_that_are_no_list_of_names(channels):
    entry = {"branches": {"CT": channels, "MRI": ["T1", "T2"]}, "pairing": "paired"}
    with pytest.raises(InputError, match="branch CT must be a list"):
        layout_from_dataset_json(dataset_json(rl_nnunet=entry))


def test_a_branch_without_a_name():
    with pytest.raises(InputError, match="must have a name"):
        layout_from_dataset_json(dataset_json(rl_nnunet=describe_branches({" ": ["CT", "T1", "T2"]}, "paired")))


@pytest.mark.parametrize(
    "names", [{"1": "MRI", "0": "CT"}, {"1": "CT"}, {"0": "CT", "2": "MRI"}, {"CT": "0"}, ["CT"], {}, None, {"0": 1}]
)
def test_channels_that_nnunet_would_take_in_another_order(names):
    with pytest.raises(InputError, match='"channel_names"'):
        layout_from_dataset_json({"channel_names": names})


@pytest.mark.parametrize(
    ("lowest", "highest", "blank"),
    [(-100, 300, -0.5), (20, 300, -0.4), (-300, -50, -0.75)],
    ids=["zero inside the clipping range", "below it", "above it"],
)
def test_blank_value_of_ct(lowest, highest, blank):
    properties = {"1": {"mean": 100, "std": 200, "percentile_00_5": lowest, "percentile_99_5": highest}}
    assert blank_values(["ZScoreNormalization", "CTNormalization"], properties) == (0.0, pytest.approx(blank))


def test_blank_value_is_what_nnunet_makes_of_zeros():
    import numpy as np
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
        CTNormalization,
        ZScoreNormalization,
    )

    properties = {"mean": 87.0, "std": 145.0, "percentile_00_5": -60.0, "percentile_99_5": 300.0}
    zeros = np.zeros((4, 4, 4), np.float32)
    for scheme in (CTNormalization, ZScoreNormalization):
        normalized = scheme(use_mask_for_norm=False, intensityproperties=properties).run(zeros.copy(), zeros)
        assert normalized == pytest.approx(blank_values([scheme.__name__], {"0": properties})[0], abs=1e-6)


def test_input_error_becomes_one_sentence(capsys):
    def command():
        raise InputError("a.nii.gz is empty: write it anew.")

    with pytest.raises(SystemExit) as exit_info:
        run_command(command)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "Error: a.nii.gz is empty: write it anew.\n"


def test_interruption_ends_without_a_traceback(capsys):
    def command():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_info:
        run_command(command)
    assert exit_info.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


def test_success_does_not_exit(capsys):
    run_command(lambda: print("done", file=sys.stdout))
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize(("pairing", "is_paired"), [("paired", True), ("unpaired", False), ("unregistered", False)])
def test_only_paired_branches_share_a_grid(pairing, is_paired):
    entry = describe_branches({"CT": ["CT"], "MRI": ["T1", "T2"]}, pairing)
    layout = layout_from_dataset_json(dataset_json(rl_nnunet=entry))
    assert (layout.pairing, layout.is_paired) == (pairing, is_paired)
