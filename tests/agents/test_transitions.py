"""The buffer: what it copies, what it refuses, and that what comes out is what came in."""

import pytest
import torch

from rl_nnunet.agents.transitions import Transitions


def test_stored_transitions_are_detached_float32_copies():
    transitions = Transitions()
    state = torch.ones(2, 3, dtype=torch.float16).T.contiguous().T
    log_p = torch.zeros(2, requires_grad=True) * 1
    row = torch.zeros(2, dtype=torch.long)
    transitions.record(state, {"row": row}, row[:, None], log_p, torch.ones(2).double(), state)
    state.fill_(5)
    (stored,) = transitions.state_dict()
    assert stored["state"].eq(1).all()
    assert stored["state"].is_contiguous()
    assert {stored[name].dtype for name in ("state", "reward", "log_probability")} == {torch.float32}
    assert stored["context"]["row"].dtype == torch.long
    assert not stored["log_probability"].requires_grad


def test_context_in_half_precision_is_stored_so_and_taken_as_float32():
    transitions = Transitions()
    seen, zeros = torch.tensor([[0.1], [2.0]]).half(), torch.zeros(2)
    transitions.record(zeros[:, None], {"seen": seen, "double": zeros.double()}, zeros, zeros, zeros, zeros[:, None])
    (stored,) = transitions.state_dict()
    assert stored["context"]["seen"].dtype == torch.float16
    assert stored["context"]["double"].dtype == torch.float32
    batch = transitions.take_all()
    assert batch["context"]["seen"].dtype == torch.float32
    assert torch.equal(batch["context"]["seen"], seen.float())


def test_bad_transitions_are_refused():
    transitions = Transitions()
    good = {
        "state": torch.zeros(4, 3),
        "context": {"row": torch.zeros(4, dtype=torch.long)},
        "action": torch.zeros(4, 1, dtype=torch.long),
        "log_probability": torch.zeros(4),
        "reward": torch.zeros(4),
        "next_state": torch.zeros(4, 3),
        "baseline": torch.zeros(4),
    }
    transitions.record(**good)
    bad = {
        "state": torch.zeros(3, 3),
        "context": {"row": torch.zeros(3, dtype=torch.long)},
        "action": torch.tensor(0),
        "log_probability": torch.zeros(4, 1),
        "reward": torch.tensor(0.0),
        "next_state": torch.zeros(4, 2),
        "baseline": torch.zeros(3),
    }
    for name, value in bad.items():
        with pytest.raises(ValueError, match="bad shape"):
            transitions.record(**{**good, name: value})
    with pytest.raises(ValueError, match="all transitions have a baseline, or none"):
        transitions.record(**{**good, "baseline": None})
    assert len(transitions) == 4


def test_all_are_taken_as_one_batch_and_forgotten():
    transitions = Transitions()
    for first, count in ((0, 2), (2, 3)):
        numbers = torch.arange(first, first + count).float()
        transitions.record(numbers[:, None], {"seen": numbers}, numbers, numbers, numbers, numbers[:, None])
    batch = transitions.take_all()
    assert batch["reward"].tolist() == batch["context"]["seen"].tolist() == [0, 1, 2, 3, 4]
    assert batch["terminal"].tolist() == [False] * 5
    assert len(transitions) == 0
