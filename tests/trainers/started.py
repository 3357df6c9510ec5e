"""What tests of refused trainings share: edits of plans and data sets, and the form of a refusal."""

from rl_nnunet.plans.intra_inter_net import IntraInterNetPlan

AGENTS_NETWORK = IntraInterNetPlan.network_class
DELETE = object()
"""The value of an edit that takes an entry out."""


def assert_one_sentence(caught, *fragments):
    sentence = caught.value.code
    assert sentence.startswith("Error: ")
    assert "\n" not in sentence
    for fragment in fragments:
        assert fragment in sentence
