"""Two ranks with different batches: what must be equal on both is, and a kill leaves no trace; all on the CPU."""

import json
from copy import deepcopy

import pytest
import rank_trainers
import torch
from checkpoints import assert_equal, comparable
from rank_trainers import train, train_on_noise, train_whole_and_interrupted
from ranks import on_two_ranks
from started import as_stock
from torch.multiprocessing import ProcessExitedException

pytestmark = pytest.mark.slow

ALL = ((), ())
ONE_LACKS = ((), (1,))
DISJOINT = ((0,), (1,))
"""Channels that each rank never sees."""


@pytest.fixture
def documents_of(request, monkeypatch, tmp_path):
    """Return a function that returns plans and dataset.json of a project, whose folders are set from then on."""

    def read(data, is_stock=False, batch_size=2, batch_dice=True):
        project = request.getfixturevalue(data)
        results = tmp_path / "results"
        environment = {"nnUNet_results": results, "nnUNet_n_proc_DA": 0, "RL_NNUNET_SEED": 3, "OMP_NUM_THREADS": 1}
        for name, value in {**project.environment, **environment}.items():
            monkeypatch.setenv(name, str(value))
        name = {"hearts": "RLXAlignSmallPlans", "grades": "ClassificationSmallPlans"}.get(data, "IntraInterSmallPlans")
        plans, dataset_json = (
            json.loads((project.preprocessed / f"{file}.json").read_text()) for file in (name, "dataset")
        )
        plans = as_stock(plans) if is_stock else plans
        plans["configurations"]["3d_fullres"] |= {"batch_size": batch_size, "batch_dice": batch_dice}
        return plans, dataset_json

    return read


def changed(before, after, part):
    """Return the names of the entries of a part of the state that are not what they were."""
    return {name for name in after[part] if not is_same(before[part][name], after[part][name])}


def is_same(a, b):
    try:
        assert_equal(a, b)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("data", ["hearts", "tumors"])
def test_ranks_are_equal_after_20_steps(documents_of, tmp_path, data):
    """Networks, optimizers, policies, critics and averages; also where a rank never sees a branch or modality."""
    t, cases = rank_trainers, []
    choices = {
        "hearts": ((t.RLXAlign, False, (ALL, ONE_LACKS, DISJOINT)), (t.APGARLXAlign, False, (ONE_LACKS,))),
        "tumors": (
            (t.RLXAlign, True, (ONE_LACKS,)),
            (t.IntraInter, False, (ALL, ONE_LACKS, DISJOINT)),
            (t.Gate, False, (ONE_LACKS,)),
            (t.NoAgents, False, (DISJOINT,)),
            (t.Selection, False, (ONE_LACKS,)),
            (t.APGA, True, (ONE_LACKS,)),
            (t.ModalityDropout, True, (ONE_LACKS,)),
        ),
    }
    for trainer, is_stock, patterns in choices[data]:
        for lacking in patterns:
            plans, dataset_json = documents_of(data, is_stock, batch_size=4, batch_dice=lacking is not DISJOINT)
            cases.append((trainer, deepcopy(plans), dataset_json, lacking))
    first, second = on_two_ranks(train_on_noise, tmp_path / "ranks", cases)
    for (trainer, _, _, lacking), (before, after), (other_before, other_after) in zip(
        cases, first, second, strict=True
    ):
        where = f"{trainer.__name__}, {lacking}"
        assert_equal(before, other_before, where)
        assert_equal(after, other_after, where)
        has_links = data == "tumors" or lacking is ALL
        if after["agents"] and has_links:
            assert changed(before, after, "agents") == set(after["agents"]), where
        policies = {name for name in after["weights"] if ".policy." in name or name.startswith("policies.")}
        if policies and has_links:
            assert changed(before, after, "weights") & policies, where


@pytest.mark.parametrize(
    ("trainer", "data", "is_stock"),
    [
        ("RLXAlign", "hearts", False),
        ("RLXAlign", "tumors", True),
        ("IntraInter", "tumors", False),
        ("NoAgents", "tumors", False),
        ("Selection", "tumors", False),
        ("APGA", "tumors", True),
        ("APGARLXAlign", "hearts", False),
        ("AugmentationPolicy", "tumors", True),
        ("LossWeightAgent", "hearts", False),
        ("Classification", "grades", False),
        ("IntraInterClassification", "grades", False),
        ("APGAClassification", "grades", False),
    ],
)
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(documents_of, tmp_path, trainer, data, is_stock):
    """Each rank has its own data and random numbers again; the log is the same on both."""
    trainer = getattr(rank_trainers, trainer)
    plans, dataset_json = documents_of(data, is_stock)
    results = on_two_ranks(train_whole_and_interrupted, tmp_path, trainer, plans, dataset_json, str(tmp_path))
    check_ranks(results)
    folds = [next((tmp_path / name).glob("*/*/fold_0")) for name in ("whole", "interrupted")]
    checkpoints = [comparable(fold) for fold in folds]
    assert_equal(*checkpoints)
    (other_rank,) = checkpoints[0]["rl_nnunet"]["other_ranks"]
    assert not is_same(other_rank["random_state"], checkpoints[0]["rl_nnunet"]["random_state"])
    assert (folds[0] / "validation" / "summary.json").is_file()
    assert (folds[0] / "validation" / "summary_per_branch.json").is_file() == ("RLXAlign" in trainer.__name__)


def check_ranks(results):
    (whole, resumed), (other_whole, other_resumed) = results
    for result in (resumed, other_whole, other_resumed):
        assert_equal(whole, result)


def test_killed_ranks_resume_exactly(documents_of, tmp_path):
    """With SIGKILL; nnU-Net starts all ranks anew."""
    arguments = (rank_trainers.RLXAlign, *documents_of("hearts"))
    whole = on_two_ranks(train, tmp_path / "a", *arguments, str(tmp_path / "whole"))
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        on_two_ranks(train, tmp_path / "b", *arguments, str(tmp_path / "killed"), 6, False, False, True)
    resumed = on_two_ranks(train, tmp_path / "c", *arguments, str(tmp_path / "killed"), None, True)
    assert_equal(whole, resumed)


def test_stock_networks_with_modality_dropout_train_on_two_ranks(documents_of, tmp_path):
    """Nothing of ours is in this training but the data; nnU-Net's checkpoints have no random state."""
    first, second = on_two_ranks(
        train, tmp_path, rank_trainers.ModalityDropout, *documents_of("tumors", is_stock=True), str(tmp_path), None,
        False, True,
    )  # fmt: skip
    assert_equal(first, second)


def test_a_checkpoint_of_two_gpus_goes_on_with_one(documents_of, tmp_path, capsys):
    """What agents have learnt is there; the samples are drawn anew, and the log says so."""
    plans, dataset_json = documents_of("hearts")
    on_two_ranks(train, tmp_path, rank_trainers.RLXAlign, plans, dataset_json, str(tmp_path), 6)
    checkpoint = next(tmp_path.glob("*/*/fold_0/checkpoint_latest.pth"))
    one = rank_trainers.RLXAlign(
        {**plans, "continue_training": False}, "3d_fullres", 0, dataset_json, torch.device("cpu")
    )
    one.load_checkpoint(str(checkpoint))
    assert "NOTE: The checkpoint is of another number of GPUs" in capsys.readouterr().out
    assert one.current_epoch == 1
    assert_equal(
        one.agents["pose_stage2"].ppo.critic.state_dict(),
        torch.load(checkpoint, weights_only=False)["rl_nnunet"]["agents"]["pose_stage2"]["critic"],
    )
