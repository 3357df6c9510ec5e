"""How often training withholds modalities, or degrades one, as plans say it."""

import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.plans.modality_shares import planned_modality_degradation, planned_modality_dropout


@pytest.mark.parametrize(
    ("configuration", "share"), [({}, 0.5), ({"modality_dropout": 0}, 0), ({"modality_dropout": 1.0}, 1)]
)
def test_plans_decide_and_stock_plans_mean_the_default(configuration, share):
    assert planned_modality_dropout(configuration) == share


@pytest.mark.parametrize(("configuration", "share"), [({}, 0.25), ({"modality_degradation": 0}, 0)])
def test_plans_decide_what_is_degraded_before_the_trainer(configuration, share):
    assert planned_modality_degradation(configuration, 0.25) == share


@pytest.mark.parametrize("value", [7, -0.1, float("nan"), "0.25", None, True, [0.5]])
def test_what_is_no_probability_is_refused(value):
    for name, planned in {
        "modality_dropout": planned_modality_dropout,
        "modality_degradation": lambda configuration: planned_modality_degradation(configuration, 0.0),
    }.items():
        with pytest.raises(InputError, match=f"{name} in the plans must be a probability from 0 to 1"):
            planned({name: value})
