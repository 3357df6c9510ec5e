"""Which modality is left out: what is possible, what is most probable, and where a new policy starts."""

import math

import torch

from rl_nnunet.policies.selection import SelectionPolicy


def with_preferences(*logits):
    """A policy that prefers the same actions whatever it sees."""
    policy = SelectionPolicy(4, len(logits) - 1)
    policy.layers[-1].bias.data = torch.tensor(logits)
    return policy


def test_a_new_policy_has_no_preference_among_what_is_possible():
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    probabilities = SelectionPolicy(4, 3).log_probabilities(torch.randn(3, 4), present).exp()
    third = 1 / 3
    expected = torch.tensor([[0.25] * 4, [third, 0.0, third, third], [0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(probabilities, expected)


def test_probabilities_are_the_softmax_of_what_is_possible():
    logs = with_preferences(1.0, 2.0, 0.0).log_probabilities(torch.randn(1, 4), torch.ones(1, 2, dtype=torch.bool))
    total = math.exp(1) + math.exp(2) + 1
    torch.testing.assert_close(logs[0], torch.tensor([1 - math.log(total), 2 - math.log(total), -math.log(total)]))


def test_the_most_probable_action_is_taken_where_it_is_possible():
    policy = with_preferences(0.0, 5.0, 1.0, 2.0)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    kept = policy(torch.randn(3, 4), present)
    # Without the second modality, to leave out nothing is what the policy prefers.
    assert kept.tolist() == [[True, False, True], [True, False, True], [False, True, False]]


def test_half_precision_is_left():
    policy, present = SelectionPolicy(4, 2), torch.ones(1, 2, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert policy.log_probabilities(torch.randn(1, 4).bfloat16(), present).dtype == torch.float32
