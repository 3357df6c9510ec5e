"""Adversarial augmentation by the commands: training, a kill, and a prediction that knows nothing of it."""

import json

import pytest
from checkpoints import assert_equal, assert_nnunet_predicts_the_same, comparable, kill_in_epoch_1, load
from started import as_stock

SEED = {"RL_NNUNET_SEED": "3"}
PLANS = "StockSmallPlans"


@pytest.fixture(scope="module")
def stock(tumors):
    """The phantom tumors with plans for nnU-Net's own network."""
    plans = as_stock(json.loads((tumors.preprocessed / "IntraInterSmallPlans.json").read_text()))
    plans["plans_name"] = PLANS
    (tumors.preprocessed / f"{PLANS}.json").write_text(json.dumps(plans))
    return tumors


@pytest.fixture(scope="module")
def trained(stock):
    stock.train("ShortAPGA", plans=PLANS, **SEED)
    return stock


def test_the_policy_is_in_our_part_of_the_checkpoint_only(trained):
    fold = trained.model("ShortAPGA", PLANS) / "fold_0"
    checkpoint = load(fold)
    agent = checkpoint["rl_nnunet"]["agents"]["mask"]
    assert set(agent) == {"policy", "optimizer"}
    assert not set(agent["policy"]) & set(checkpoint["network_weights"])
    log = checkpoint["logging"]
    # The first of two epochs trains without masks.
    assert [value == value for value in log["mask_kept"]] == [False, True]
    assert 0 < log["mask_kept"][1] < 1
    assert (fold / "progress_rl.png").stat().st_size > 0


def test_killed_and_resumed_training_equals_an_uninterrupted_one(trained, tmp_path):
    """Which are two trainings with one seed, too."""
    killed = trained.with_results(tmp_path)
    kill_in_epoch_1(killed, "ShortAPGA", PLANS, **SEED)
    killed.train("ShortAPGA", "--c", plans=PLANS, **SEED)
    folds = [project.model("ShortAPGA", PLANS) / "fold_0" for project in (killed, trained)]
    assert_equal(*(comparable(fold) for fold in folds))


def test_nnunet_predicts_without_anything_of_ours(trained, tmp_path):
    assert_nnunet_predicts_the_same(trained, "ShortAPGA", PLANS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ShortAPGAPaper", "ShortAPGAScriptLoss", "ShortAPGACutout", "ShortAPGAGradCAM"])
def test_ablation_trains_resumes_and_predicts(stock, tmp_path, trainer):
    project = stock.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    project.train(trainer, plans=PLANS, **SEED)
    killed = stock.with_results(tmp_path / "killed")
    killed.results.parent.mkdir()
    kill_in_epoch_1(killed, trainer, PLANS, **SEED)
    killed.train(trainer, "--c", plans=PLANS, **SEED)
    assert_equal(*(comparable(each.model(trainer, PLANS) / "fold_0") for each in (killed, project)))
    project.predict(trainer, tmp_path / "predictions", plans=PLANS)
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 2


@pytest.mark.slow
def test_rl_xalign_with_a_mask_per_branch(hearts, tmp_path):
    project, killed = (hearts.with_results(tmp_path / name) for name in ("results", "killed"))
    for each in (project, killed):
        each.results.parent.mkdir()
    project.train("ShortAPGARLXAlign", **SEED)
    kill_in_epoch_1(killed, "ShortAPGARLXAlign", "RLXAlignSmallPlans", **SEED)
    killed.train("ShortAPGARLXAlign", "--c", **SEED)
    assert_equal(*(comparable(each.model("ShortAPGARLXAlign") / "fold_0") for each in (killed, project)))
    project.predict("ShortAPGARLXAlign", tmp_path / "predictions")
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 3
