"""The entry of the plans on several scans of a patient."""

import pytest

from rl_nnunet.errors import InputError
from rl_nnunet.plans.companions import CompanionConfig, planned_companions


def test_defaults_and_values():
    assert planned_companions({}) == CompanionConfig(0.75, "auto")
    assert planned_companions({"companions": {"placement": "relative"}}) == CompanionConfig(0.75, "relative")
    assert planned_companions({"companions": {"same_patient": 1}}).same_patient == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (0.5, "must look like"),
        ({"same_patient": 1.5}, "probability from 0 to 1, not 1.5"),
        ({"same_patient": True}, "probability from 0 to 1, not True"),
        ({"placement": "none"}, "auto, physical, relative, not 'none'"),
        ({"same_patients": 0.5}, "there is no same_patients. Did you mean same_patient?"),
    ],
)
def test_unusable_entries(entry, message):
    with pytest.raises(InputError, match=message):
        planned_companions({"companions": entry})
