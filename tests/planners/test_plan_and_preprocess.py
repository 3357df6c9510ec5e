import json
import re

import pytest
from nnunetv2.experiment_planning import plan_and_preprocess_api
from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry

from rl_nnunet.planners.plan_and_preprocess import main
from rl_nnunet.planners.planning_arguments import build_parser

BRANCHES = {"CT": ["CT"], "MRI": ["MRI"]}


def flags(help_text):
    return set(re.findall(r"^  (--?\w+)", help_text, flags=re.MULTILINE)) - {"-h"}


@pytest.fixture
def dataset(write_dataset, unpaired_cases):
    return write_dataset("Dataset001_Unpaired", unpaired_cases, BRANCHES)


def test_flags_are_those_of_nnunet(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nnUNetv2_plan_and_preprocess", "--help"])
    with pytest.raises(SystemExit):
        plan_and_preprocess_entry()
    expected = flags(capsys.readouterr().out)
    assert "-overwrite_plans_name" in expected
    assert flags(build_parser().format_help()) - {"--version", "--fast_resampling"} == expected


@pytest.mark.usefixtures("fingerprint_in_threads", "dataset")
def test_plans_a_data_set_with_a_planner_of_nnunet(nnunet_folders, capsys):
    main(["-d", "1", "-pl", "ExperimentPlanner", "-overwrite_plans_name", "Mine", "--no_pp", "--no_pbar"])

    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset001_Unpaired"
    assert "cases_per_branch" in (folder / "dataset_fingerprint.json").read_text()
    assert (folder / "Mine.json").is_file()
    assert not (folder / "gt_segmentations").exists()
    table = capsys.readouterr().out.split("Dataset001_Unpaired, Mine\n")[1].splitlines()
    assert table[0].split() == [
        "configuration", "patch", "size", "batch", "size", "memory", "epoch", "spacing", "(mm)"
    ]  # fmt: skip
    assert re.fullmatch(r"3d_fullres +\d+ x \d+ x \d+ +\d+ +< 1 GB +< 10 s  1 x 1 x 1", table[2])


@pytest.fixture
def calls(monkeypatch, nnunet_folders):
    """Record the calls of nnU-Net's functions instead of making them."""
    calls = []
    answers = {
        "extract_fingerprint_dataset": None,
        "plan_experiment_dataset": ({}, "RLXAlignPlans"),
        "preprocess_dataset": None,
    }
    for name, answer in answers.items():

        def record(*args, _name=name, _answer=answer, **kwargs):
            calls.append((_name, *args))
            if _name == "plan_experiment_dataset":
                plans = {"configurations": {"2d": {}, "3d_fullres": {}}}
                folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset001_Unpaired"
                (folder / "RLXAlignPlans.json").write_text(json.dumps(plans))
            return _answer

        monkeypatch.setattr(plan_and_preprocess_api, name, record)
    monkeypatch.setattr("rl_nnunet.planners.plan_table.print_plans", lambda *args: calls.append(args))
    return calls


@pytest.mark.usefixtures("dataset")
def test_defaults_are_ours(calls):
    from rl_nnunet.planners.fingerprint_extractor import PresentChannelsFingerprintExtractor
    from rl_nnunet.planners.rl_xalign_planner import RLXAlignPlanner

    main(["-d", "1"])

    assert calls == [
        ("extract_fingerprint_dataset", 1, PresentChannelsFingerprintExtractor, 8, False, False, False),
        ("plan_experiment_dataset", 1, RLXAlignPlanner, None, "DefaultPreprocessor", None, None),
        ("preprocess_dataset", 1, "RLXAlignPlans", ["2d", "3d_fullres"], [8, 4], False),
        (RLXAlignPlanner, "Dataset001_Unpaired", "RLXAlignPlans"),
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ("-d 7", {}, "There is no data set with the ID 7"),
        ("-d 1 -pl NoPlanner", {}, "There is no ExperimentPlanner called 'NoPlanner'"),
        ("-d 1 -fpe RLXAlignPlanner", {}, "There is no DatasetFingerprintExtractor called 'RLXAlignPlanner'"),
        ("-d 1 -preprocessor_name None", {}, "There is no DefaultPreprocessor called 'None'"),
        ("-d 1 -c 2d 3d_fullres -np 1 2 3", {}, "-np takes one number, or one per configuration of -c (2), not 3"),
        ("-d 1 -npfp 0", {}, "-np and -npfp must be 1 or more"),
        ("-d 1 -overwrite_target_spacing 1 1", {}, "three numbers above 0, not 1 1"),
        ("-d 1 -overwrite_target_spacing 1 1 a", {}, "three numbers above 0, not 1 1 a"),
        ("-d 1", {"nnUNet_raw": None}, "nnUNet_raw is not set"),
        ("-d 1", {"nnUNet_preprocessed": None}, "nnUNet_preprocessed is not set"),
        ("-d 1", {"nnUNet_n_proc_DA": "0"}, "nnUNet_n_proc_DA=0 crashes nnU-Net's planner"),
    ],
)
@pytest.mark.usefixtures("dataset")
def test_bad_input_is_answered_by_one_sentence(monkeypatch, capsys, calls, arguments, environment, sentence):
    for name, value in environment.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as exit_info:
        main(arguments.split())

    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert calls == []


@pytest.mark.usefixtures("dataset")
def test_two_data_sets_of_one_id(nnunet_folders, capsys):
    (nnunet_folders / "nnUNet_raw" / "Dataset001_Other").mkdir()
    with pytest.raises(SystemExit):
        main(["-d", "1"])
    assert "More than one data set has the ID 1: Dataset001_Other, Dataset001_Unpaired" in capsys.readouterr().err
