"""An agent that sets the augmentation, by the commands: training, a kill, equal seeds, and a prediction without it."""

import json

import pytest
from checkpoints import assert_equal, assert_nnunet_predicts_the_same, comparable, kill_in_epoch_1, load
from started import as_stock

SEED = {"RL_NNUNET_SEED": "3"}
PLANS = "StockSmallPlans"
STOCK, BRANCHED = "ShortAugmentationPolicy", "ShortAugmentationPolicyRLXAlign"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tumors):
    """The phantom tumors with plans for nnU-Net's own network, and a training of two epochs on them."""
    plans = as_stock(json.loads((tumors.preprocessed / "IntraInterSmallPlans.json").read_text()))
    plans["plans_name"] = PLANS
    (tumors.preprocessed / f"{PLANS}.json").write_text(json.dumps(plans))
    tumors.train(STOCK, plans=PLANS, **SEED)
    return tumors


def assert_resumes(project, trainer, plans, folder):
    """A killed and resumed training equals a trained project; they are two trainings with one seed, too."""
    killed = project.with_results(folder)
    kill_in_epoch_1(killed, trainer, plans, **SEED)
    # The setting of the epoch that was interrupted is in the checkpoint of the epoch before it.
    saved = load(killed.model(trainer, plans) / "fold_0", "checkpoint_latest.pth")
    state = saved["rl_nnunet"]["agents"]["augmentation"]
    assert state["drawn"] is not None
    assert state["ppo"]["transitions"] == []
    killed.train(trainer, "--c", plans=plans, **SEED)
    assert_equal(*(comparable(each.model(trainer, plans) / "fold_0") for each in (killed, project)))


def test_killed_and_resumed_training_equals_an_uninterrupted_one(trained, tmp_path):
    checkpoint = load(trained.model(STOCK, PLANS) / "fold_0")
    assert set(checkpoint["rl_nnunet"]["agents"]) == {"augmentation"}
    assert len(checkpoint["rl_nnunet"]["agents"]["augmentation"]["ppo"]["transitions"]) == 1
    log = checkpoint["logging"]
    assert [value == 1 for value in log["augmentation_strength_noise"]] == [True, False]
    assert_resumes(trained, STOCK, PLANS, tmp_path)


def test_workers_train_with_it_too(trained, tmp_path):
    project = trained.with_results(tmp_path)
    project.run(
        "nnUNetv2_train", project.id, "3d_fullres", "0", "-p", PLANS, "-tr", STOCK, "-device", "cpu",
        nnUNet_n_proc_DA="2",
    )  # fmt: skip
    log = load(project.model(STOCK, PLANS) / "fold_0")["logging"]
    assert log["augmentation_probability_noise"][0] == 0.1 != log["augmentation_probability_noise"][1]


def test_nnunet_predicts_without_anything_of_ours(trained, tmp_path):
    assert_nnunet_predicts_the_same(trained, STOCK, PLANS, tmp_path)


def test_rl_xalign_with_one_setting_for_all_branches(hearts, tmp_path):
    project = hearts.with_results(tmp_path / "results")
    project.results.parent.mkdir()
    (tmp_path / "killed").mkdir()
    project.train(BRANCHED, **SEED)
    assert_resumes(project, BRANCHED, "RLXAlignSmallPlans", tmp_path / "killed")
    project.predict(BRANCHED, tmp_path / "predictions")
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 3
