"""What cannot be trained ends in one sentence: edited plans and data sets, checkpoints, seeds, configurations."""

import json
import shutil

import pytest
import torch
from checkpoints import load
from started import AGENTS_NETWORK, DELETE, assert_one_sentence

from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

FULLRES = ("configurations", "3d_fullres")
NETWORK = (*FULLRES, "architecture")
KWARGS = (*NETWORK, "arch_kwargs")
BRANCHES = ("rl_nnunet", "branches")
NAN = float("nan")


def in_plans(*path_and_value):
    return ("plans", path_and_value[:-1], path_and_value[-1])


def in_kwargs(*path_and_value):
    return in_plans(*KWARGS, *path_and_value)


def in_dataset(*path_and_value):
    return ("dataset", path_and_value[:-1], path_and_value[-1])


# Edits of plans or dataset.json, and what the sentence has to name.
FOR_BOTH = [
    ([in_kwargs("blank_values", [0.0])], "blank_values has 1 values for 2 channels"),
    ([in_kwargs("blank_values", [0.0, 0.5])], "state the blank_values [0.0, 0.5], but their normalization makes"),
    ([in_kwargs("blank_values", [0.0, NAN])], "blank_values must be a list of numbers"),
    ([in_kwargs("blank_values", DELETE)], "blank_values is missing"),
    ([in_kwargs("blank_value", [0.0, 0.0])], "there is no argument blank_value. Did you mean blank_values?"),
    ([in_kwargs("n_stages", "three")], "n_stages must be a whole number"),
    ([in_kwargs("features_per_stage", [8])], "do not build"),
    ([in_kwargs("conv_op", "torch.nn.Conv7d")], "do not build"),
    ([in_kwargs("strides", [2, 2])], "strides must be a list of strides"),
    ([in_kwargs("num_classes", 3)], "there is no argument num_classes"),
    ([in_plans(*NETWORK, "network_class_name", "torch.nn.Linear")], "The plans build torch.nn.Linear"),
    ([in_plans(*NETWORK, "network_class_name", DELETE)], "the architecture has no network_class_name"),
    ([in_plans(*KWARGS, None)], "the architecture has no arch_kwargs"),
    ([in_plans(*FULLRES, "normalization_schemes", ["CTNormalization"])], "has 2 channels (CT, MRI), but the plans"),
    ([in_plans(*FULLRES, "normalization_schemes", DELETE)], "no normalization_schemes"),
    ([in_plans("plans_name", DELETE)], "The plans have no plans_name"),
    ([in_plans("configurations", DELETE)], "have no configurations"),
    ([in_plans(*NETWORK, DELETE)], "there is no architecture"),
    ([in_plans(*NETWORK, DELETE), in_plans(*FULLRES, "inherits_from", "3d_fullres")], "there is no architecture"),
    ([in_plans("foreground_intensity_properties_per_channel", {})], "no intensity statistics of channel 0"),
    ([in_dataset("channel_names", {"0": "CT"}), in_dataset("rl_nnunet", DELETE)], "has 1 channels (CT), but the plans"),
    ([in_dataset("channel_names", {"1": "CT", "2": "MRI"})], '"channel_names" must name the channels'),
    *[
        ([in_plans(*FULLRES, name, value)], "batch_size and patch_size must be whole numbers above 0")
        for name, value in (("batch_size", 0), ("batch_size", "2"), ("batch_size", DELETE), ("patch_size", [0, 8, 8]))
    ],
    ([in_plans(*FULLRES, "patch_size", [7, 7, 7])], "does not fit the spacing and the strides"),
    ([in_plans(*FULLRES, "patch_size", [16, 16])], "does not fit the spacing and the strides"),
    ([in_dataset("channel_names", DELETE)], '"channel_names" must name'),
    ([in_dataset("labels", DELETE)], '"labels" must name the background'),
    ([in_dataset("labels", {"heart": 1, "liver": 2})], '"labels" must name the background'),
    ([in_dataset("labels", {"background": 0, "all": [1, 2], "core": 2})], 'need a "regions_class_order"'),
    ([in_dataset("rl_nnunet", "pairing", "both")], '"pairing" must be "paired", "unpaired" or "unregistered"'),
    ([in_dataset(*BRANCHES, "CT", ["CT", "MRI"])], "must use every channel exactly once"),
]
FOR_BRANCHES = [
    *[
        ([in_kwargs("branch_dropout", value)], f"branch_dropout must be a probability from 0 to 1, not {value!r}")
        for value in (7, -0.1, NAN, "0.25", None, True, [0.25])
    ],
    ([in_dataset(*BRANCHES, {"MRI": ["MRI"], "CT": ["CT"]})], "MRI (channel 1) and CT (channel 0), but the plans"),
    ([in_dataset(*BRANCHES, {"both": ["CT", "MRI"]})], "both (channels 0, 1), but the plans RLXAlignSmallPlans"),
    ([in_dataset(*BRANCHES, {"CT": ["CT"], "MR": ["MRI"]})], "MR (channel 1), but the plans"),
    ([in_dataset("channel_names", {"0": "MRI", "1": "CT"})], "CT (channel 1) and MRI (channel 0), but the plans"),
    ([in_kwargs("branch_dropuot", 0.5)], "no argument branch_dropuot. Did you mean branch_dropout?"),
    ([in_kwargs("branches", DELETE)], "branches is missing"),
    ([in_kwargs("branches", [0, 1])], "branches must be a list of lists of channels"),
    ([in_kwargs("branches", [[0], [0]])], "branches must use each of the 2 channels once"),
    ([in_kwargs("branches", [[0, 1]])], "branches must use each of the 2 channels once"),
    ([in_kwargs("branch_names", ["CT", "CT"])], "branch_names must be a list of different names"),
    ([in_kwargs("aligned_stages", [99]), in_kwargs("windows", [[4, 4, 4]])], "aligned_stages must be below n_stages"),
    ([in_kwargs("aligned_stages", [])], "aligned_stages need as many windows"),
    ([in_kwargs("aligned_stages", [2, 1])], "aligned_stages must be a list of different stages in order"),
    ([in_kwargs("aligned_stages", [-1])], "aligned_stages must be a list of different stages in order"),
    ([in_kwargs("carried_stages", ["0"])], "carried_stages must be a list of different stages in order"),
    ([in_kwargs("carried_stages", [99])], "carried_stages must be below n_stages"),
    ([in_kwargs("carried_stages", [2])], "carried_stages must lie before the first aligned stage"),
    ([in_kwargs("windows", 0, [4, 4])], "windows need 3 edges each"),
    ([in_kwargs("windows", 0, [0, 4, 4])], "windows must be a list of windows in voxels"),
    ([in_kwargs("xalign", "polcy", "global")], "xalign: there is no argument polcy. Did you mean policy?"),
    ([in_kwargs("xalign", "policy", "globl")], "xalign.policy cannot be 'globl'"),
    ([in_kwargs("xalign", "fusion", "none")], 'xalign.fusion must be "gated" or "fixed"'),
    ([in_kwargs("xalign", "fusion_weight", 0.5)], "xalign.fusion_weight must lie between 0 and 0.5"),
    ([in_kwargs("xalign", "initial_gate", NAN)], "xalign.initial_gate cannot be nan"),
    ([in_kwargs("xalign", "selected_rotations", 25)], "that turnable_axes leave"),
    (
        [in_kwargs("turnable_axes", 0, []), in_kwargs("xalign", "selected_rotations", 5)],
        "more than the 4 that turnable",
    ),
    (
        [in_kwargs("turnable_axes", 0, [1])],
        "turnable_axes must be a list of lists of axes, each of none or at least two",
    ),
    ([in_kwargs("turnable_axes", 0, [1, 1])], "turnable_axes must be a list of lists of axes"),
    ([in_kwargs("turnable_axes", 0, [1, 3])], "turnable_axes must be below 3"),
    ([in_kwargs("turnable_axes", [])], "aligned_stages need as many turnable_axes"),
    ([in_kwargs("xalign", "feeds", "decoder")], 'xalign.feeds must be "skips" or "encoder"'),
    ([in_kwargs("xalign", "selected_rotations", 0)], "selected_rotations must be at least 1"),
    ([in_kwargs("xalign", "selected_rotations", 1.5)], "selected_rotations cannot be 1.5"),
    ([in_kwargs("xalign", "cross_modal_attention", "no")], "cross_modal_attention cannot be 'no'"),
    ([in_kwargs("xalign", None)], "xalign must be an object"),
    (
        [in_plans(*NETWORK, "network_class_name", AGENTS_NETWORK)],
        "RL-XAlign needs plans of RLXAlignPlanner",
    ),
]
FOR_MODALITIES = [
    ([in_kwargs("n_stages", 2)], "do not build IntraInterNet (AssertionError"),
    ([in_dataset("rl_nnunet", "pairing", "unpaired")], "The data set is unpaired"),
    ([in_dataset("channel_names", {"0": "MRI", "1": "CT"})], "are MRI, CT, but the plans IntraInterSmallPlans were"),
    ([in_kwargs("modality_names", ["CT"])], "modality_names must name all 2 channels"),
    ([in_kwargs("agents", ["intro"])], 'agents must be of "intra" and "inter"'),
    ([in_kwargs("agents", DELETE)], "agents is missing"),
    ([in_kwargs("iterations", -1)], "iterations must be a whole number"),
    ([in_kwargs("iterations", 0)], "do not build IntraInterNet (ValueError: agents"),
    ([in_kwargs("hidden_size", 0)], "hidden_size must be a whole number above 0"),
    ([in_kwargs("xalign", {})], "there is no argument xalign"),
    (
        [in_plans(*NETWORK, "network_class_name", "rl_nnunet.networks.rl_u2net.RLU2Net")],
        "the agents need plans of IntraInterPlanner",
    ),
]
TABLE = [
    *((trainer, *row) for trainer in (RLXAlignTrainer, IntraInterTrainer) for row in FOR_BOTH),
    *((RLXAlignTrainer, *row) for row in FOR_BRANCHES),
    *((IntraInterTrainer, *row) for row in FOR_MODALITIES),
]


@pytest.mark.parametrize("trainer", [RLXAlignTrainer, IntraInterTrainer])
def test_what_is_not_edited_starts(start, trainer):
    assert start(trainer).was_initialized


def test_a_configuration_may_inherit_all_but_what_it_changes(start):
    """As nnU-Net's documentation has it."""
    architecture = start(RLXAlignTrainer).configuration_manager.configuration["architecture"]
    child = {"inherits_from": "3d_fullres", "architecture": architecture, "batch_size": 3}
    trainer = start(RLXAlignTrainer, [in_plans("configurations", "child", child)], "child")
    assert trainer.configuration_manager.batch_size == 3


def test_plans_of_another_spacing_than_the_preprocessed_data(start):
    trainer = start(RLXAlignTrainer, [in_plans(*FULLRES, "spacing", [1.0, 1.0, 1.0])])
    with pytest.raises(SystemExit) as caught:
        trainer.get_dataloaders()
    assert_one_sentence(caught, "a spacing of [1.0, 1.0, 1.0] mm, to which the preprocessed data were not resampled")


def test_a_case_that_lacks_the_file_of_a_channel(start):
    network = start(RLXAlignTrainer).network
    with pytest.raises(SystemExit) as caught:
        network(torch.zeros(1, 1, 16, 16, 16))
    assert_one_sentence(caught, "The case has 1 channel, but the network 2: each case needs a file for every channel")


@pytest.mark.parametrize(("trainer", "edits", "fragment"), TABLE)
def test_what_does_not_fit_is_refused_in_one_sentence(start, tmp_path, trainer, edits, fragment):
    with pytest.raises(SystemExit) as caught:
        start(trainer, edits)
    assert_one_sentence(caught, fragment)
    if "do not build" not in fragment:
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trainer", [RLXAlignTrainer, IntraInterTrainer])
@pytest.mark.parametrize(
    ("configuration", "edits", "fragment"),
    [
        ("3d_fulres", [], "have no configuration 3d_fulres, but 2d, 3d_fullres. Did you mean 3d_fullres?"),
        ("", [], "have no configuration"),
        (
            "3d_cascade_fullres",
            [in_plans("configurations", "3d_cascade_fullres", {"inherits_from": "3d_fullres", "previous_stage": "x"})],
            "3d_cascade_fullres is a cascade",
        ),
        ("child", [in_plans("configurations", "child", {"inherits_from": "parent"})], "have no configuration parent"),
    ],
)
def test_configurations_that_cannot_be_trained(start, tmp_path, trainer, configuration, edits, fragment):
    with pytest.raises(SystemExit) as caught:
        start(trainer, edits, configuration)
    assert_one_sentence(caught, fragment)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", ["abc", "-1", str(2**32), str(2**40), "1.5", "1e3", "٣", "9" * 5000, "0x1"])
def test_a_seed_that_is_none_is_refused(start, monkeypatch, seed):
    monkeypatch.setenv("RL_NNUNET_SEED", seed)
    with pytest.raises(SystemExit) as caught:
        start(RLXAlignTrainer)
    assert_one_sentence(caught, f"RL_NNUNET_SEED={seed} is no seed; give a whole number from 0 to 4294967295.")


@pytest.mark.parametrize(
    ("text", "seed"), [("", None), (" ", None), ("0", 0), ("0007", 7), (str(2**32 - 1), 2**32 - 1)]
)
def test_seeds(start, monkeypatch, text, seed):
    monkeypatch.setenv("RL_NNUNET_SEED", text)
    assert start(RLXAlignTrainer).seed == seed


def test_data_that_are_not_paired(start):
    trainer = start(RLXAlignTrainer, [in_dataset("rl_nnunet", "pairing", "paired")])
    with pytest.raises(SystemExit) as caught:
        trainer.get_dataloaders()
    assert_one_sentence(caught, "calls the data set paired, but no training case has more than one of the branches CT")


def test_patients_of_unregistered_data_have_to_be_known(start):
    unregistered = in_dataset("rl_nnunet", "pairing", "unregistered")
    with pytest.raises(SystemExit) as caught:
        start(RLXAlignTrainer, [unregistered]).get_dataloaders()
    assert_one_sentence(caught, "cases.csv, which says which scans are of one patient; plan and preprocess anew")
    with pytest.raises(SystemExit) as caught:
        start(RLXAlignTrainer, [unregistered, in_plans(*FULLRES, "companions", {"placement": 3})]).get_dataloaders()
    assert_one_sentence(caught, "placement must be one of auto, physical, relative, not 3")


@pytest.mark.parametrize(
    "edits",
    [
        [in_dataset("labels", "tumor", 8)],
        [in_dataset("labels", {"background": 0, "heart": 1})],
        [
            in_dataset("labels", {"background": 0, "heart": [1, 2, 3, 4, 5, 6, 7], "one": 1}),
            in_dataset("regions_class_order", [2, 1]),
        ],
    ],
)
def test_labels_that_are_not_those_of_the_preprocessed_data(start, edits):
    trainer = start(RLXAlignTrainer, edits)
    with pytest.raises(SystemExit) as caught:
        trainer.get_dataloaders()
    assert_one_sentence(caught, "The labels of dataset.json are not the 7 with which the data were preprocessed")


# ---- the real commands ---------------------------------------------------------------------------------------------


@pytest.fixture
def copy_of_hearts(hearts, copy_raw, tmp_path):
    """The hearts with plans and data of their own."""
    project = copy_raw(hearts, tmp_path)
    shutil.copytree(hearts.preprocessed, project.preprocessed)
    return project


def edit_file(file, *path_and_value):
    *parents, last, value = path_and_value
    document = json.loads(file.read_text())
    target = document
    for key in parents:
        target = target[key]
    target[last] = value
    file.write_text(json.dumps(document))


def assert_command_refuses(output, fragment):
    assert "Traceback" not in output
    sentences = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1, output
    assert fragment in sentences[0]


@pytest.mark.slow
def test_the_command_refuses_in_one_sentence(copy_of_hearts):
    """Nothing of a training that is refused at once is left in the folder of results."""
    project = copy_of_hearts
    assert_command_refuses(
        project.train("RLXAlignTrainer", code=1, RL_NNUNET_SEED="abc"), "RL_NNUNET_SEED=abc is no seed"
    )
    assert_command_refuses(
        project.train("RLXAlignTrainer_20epochs", configuration="3d_fulres", code=1), "Did you mean 3d_fullres?"
    )
    assert_command_refuses(project.train("IntraInterTrainer", code=1), "The data set is unpaired")
    edit_file(project.preprocessed / "RLXAlignSmallPlans.json", *KWARGS, "branch_dropout", 7)
    assert_command_refuses(project.train("RLXAlignTrainer", code=1), "branch_dropout must be a probability")
    assert not list(project.results.parent.rglob("*__*"))


@pytest.mark.slow
def test_commands_on_a_trained_model(copy_of_hearts, tmp_path):
    """``--c`` on another checkpoint, and prediction with plans that somebody has edited."""
    project = copy_of_hearts
    project.train("ShortTrainer")
    fold = project.model("ShortTrainer") / "fold_0"
    content = load(fold)
    torch.save({**content, "trainer_name": "nnUNetTrainer"}, fold / "checkpoint_final.pth")
    assert_command_refuses(project.train("ShortTrainer", "--c", code=1), "is a checkpoint of nnUNetTrainer")
    (fold / "checkpoint_final.pth").write_bytes(b"PK" + bytes(100))
    assert_command_refuses(project.train("ShortTrainer", "--c", code=1), "cannot be read")
    torch.save(content, fold / "checkpoint_final.pth")
    edit_file(project.model("ShortTrainer") / "plans.json", *KWARGS, "branch_dropuot", 0.5)
    output = project.run(
        "nnUNetv2_predict", "-i", project.raw / "imagesTs", "-o", tmp_path / "predictions", "-d", project.id, "-c",
        "3d_fullres", "-f", "0", "-p", "RLXAlignSmallPlans", "-tr", "ShortTrainer", "-device", "cpu", code=1,
    )  # fmt: skip
    assert_command_refuses(output, "there is no argument branch_dropuot. Did you mean branch_dropout?")
