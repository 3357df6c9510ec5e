"""How often training withholds modalities, as plans say it."""

import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.plans.modality_dropout import planned_modality_dropout


@pytest.mark.parametrize(
    ("configuration", "share"), [({}, 0.5), ({"modality_dropout": 0}, 0), ({"modality_dropout": 1.0}, 1)]
)
def test_plans_decide_and_stock_plans_mean_the_default(configuration, share):
    assert planned_modality_dropout(configuration) == share


@pytest.mark.parametrize("value", [7, -0.1, float("nan"), "0.25", None, True, [0.5]])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(InputError, match="modality_dropout in the plans must be a probability from 0 to 1"):
        planned_modality_dropout({"modality_dropout": value})
