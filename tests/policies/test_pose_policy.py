"""The distribution over rotations: what it sees, what it finds, and what trains it."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from rl_nnunet.policies import plackett_luce
from rl_nnunet.policies.pose import PosePolicy, average_to_cube, shift_windows
from rl_nnunet.policies.rotations import inverse, rotate, rotation_matrices, turning

FORWARD = torch.tensor([[0, 1]])


def policy(dimension=3, kind="contextual", branches=2, grid=4, max_shift=1, rotations=None):
    torch.manual_seed(0)
    return PosePolicy(
        3, dimension, branches, kind, projection_channels=5, grid=grid, max_shift=max_shift, rotations=rotations
    )


@pytest.mark.parametrize("spatial", [(4, 4), (8, 4), (4, 8, 8), (2, 8, 4)])
def test_average_to_cube(spatial):
    x = torch.randn(2, 3, *spatial)
    cube = average_to_cube(x, 4)
    assert cube.shape == (2, 3, *[4] * len(spatial))
    torch.testing.assert_close(cube.flatten(2).mean(2), x.flatten(2).mean(2))


@pytest.mark.parametrize("dimension", [2, 3])
def test_global_policy_ignores_the_maps(dimension):
    agent = policy(dimension, "global")
    torch.nn.init.normal_(agent.preferences)
    assert [name for name, _ in agent.named_parameters()] == ["preferences"]
    results = []
    for _ in range(2):
        main, auxiliary = torch.randn(2, 1, 3, *[4] * dimension)
        context = agent.context(main, auxiliary, FORWARD)
        assert set(context) == {"branches"}
        results.append(agent.logits(context))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0][0], agent.preferences[0, 1])


def test_directions_have_preferences_of_their_own():
    agent = policy(kind="global", branches=3)
    torch.nn.init.normal_(agent.preferences)
    directions = torch.tensor([[2, 0], [0, 2], [1, 2]])
    logits = agent.logits({"branches": directions})
    assert torch.equal(logits, torch.stack([agent.preferences[2, 0], agent.preferences[0, 2], agent.preferences[1, 2]]))


@pytest.mark.parametrize("dimension", [2, 3])
def test_contextual_policy_finds_every_rotation(dimension):
    """The auxiliary map is the main map, turned: the logits are theta + beta cos, and cos is 1 where it is undone."""
    agent = policy(dimension)
    count = len(rotation_matrices(dimension))
    main = torch.randn(count, 3, *[4] * dimension)
    auxiliary = torch.stack([rotate(x, inverse(r, dimension), dimension) for r, x in enumerate(main)])
    context = agent.context(main, auxiliary, FORWARD.expand(count, 2))
    logits = agent.logits(context)
    assert logits.argmax(1).tolist() == list(range(count))
    torch.testing.assert_close(logits.diagonal(), agent.sharpness.expand(count))
    rotations, _, _ = agent.draw(context, 1, most_probable=True)
    assert rotations.flatten().tolist() == list(range(count))


def test_logits_are_the_cosine_of_the_projected_and_centered_maps():
    agent = policy(max_shift=0)
    torch.nn.init.normal_(agent.preferences)
    torch.nn.init.normal_(agent.projections)
    main, auxiliary = torch.randn(2, 1, 3, 4, 4, 4).half().float()  # in which the policy sees them
    logits = agent.logits(agent.context(main, auxiliary, FORWARD))[0]
    projected = []
    for x, branch in ((main, 0), (auxiliary, 1)):
        y = torch.einsum("pc,czyx->pzyx", agent.projections[branch], x[0])
        projected.append(y - y.mean((1, 2, 3), keepdim=True))
    for r in range(24):
        a, b = projected[0].flatten(), rotate(projected[1], r, 3).flatten()
        expected = agent.preferences[0, 1, r] + agent.sharpness * torch.dot(a, b) / (a.norm() * b.norm())
        torch.testing.assert_close(logits[r], expected)


@pytest.mark.parametrize(("dimension", "grid", "max_shift"), [(2, 4, 2), (3, 3, 1), (3, 4, 0)])
def test_windows_against_cutting_a_padded_map(dimension, grid, max_shift):
    padded = functional.pad(torch.randn((grid,) * dimension), [max_shift] * 2 * dimension)
    expected = [
        padded[tuple(slice(start, start + grid) for start in shift)].flatten()
        for shift in itertools.product(range(2 * max_shift + 1), repeat=dimension)
    ]
    assert torch.equal(padded.flatten()[shift_windows(grid, max_shift, dimension)], torch.stack(expected))


def test_similarity_is_that_of_the_best_shift():
    agent, s = policy(max_shift=1), 1
    main, auxiliary = torch.randn(2, 2, 3, 4, 4, 4)
    context = agent.context(main, auxiliary, FORWARD.expand(2, 2))
    logits = agent.logits(context).detach()
    a, b = (agent._project(context[name], torch.tensor([0, 0])).detach() for name in ("main", "auxiliary"))
    padded = functional.pad(a, [s] * 6)
    for r in range(24):
        turned = rotate(b, r, 3)
        best = torch.stack([
            (padded[:, :, x : x + 4, y : y + 4, z : z + 4] * turned).sum((1, 2, 3, 4))
            for x, y, z in itertools.product(range(2 * s + 1), repeat=3)
        ]).amax(0)  # fmt: skip
        torch.testing.assert_close(logits[:, r], agent.sharpness.detach() * best)


@pytest.mark.parametrize("dimension", [2, 3])
def test_contextual_policy_finds_a_structure_in_another_place(dimension):
    """The structure is turned and lies elsewhere: without shifts the policy is wrong, with them it is right."""
    count = len(rotation_matrices(dimension))
    structure = torch.zeros(count, 3, *[6] * dimension)
    structure[(..., *[slice(2, 5)] * dimension)] = torch.randn(3, *[3] * dimension)
    turned = torch.stack([rotate(x, inverse(r, dimension), dimension) for r, x in enumerate(structure)])
    moved = turned.roll((1,) * dimension, dims=tuple(range(2, 2 + dimension)))
    right = []
    for max_shift in (0, 2):
        agent = policy(dimension, grid=6, max_shift=max_shift)
        logits = agent.logits(agent.context(structure, moved, FORWARD.expand(count, 2)))
        right.append((logits.argmax(1) == torch.arange(count)).float().mean().item())
    assert right[0] < 0.5
    assert right[1] == 1


@pytest.mark.parametrize("kind", ["contextual", "global"])
@pytest.mark.parametrize(("axes", "dimension"), [((1, 2), 3), ((), 3), ((), 2)])
def test_rotations_that_are_left_out_have_no_part(kind, axes, dimension):
    """Never drawn, probability 0; entropy, log-probability and gradient are those of a smaller distribution."""
    rotations = turning(axes, dimension)
    left_out = [r for r in range(len(rotation_matrices(dimension))) if r not in rotations]
    masked, full = (policy(dimension, kind, rotations=some) for some in (rotations, None))
    for agent in (masked, full):
        torch.manual_seed(1)
        torch.nn.init.normal_(agent.preferences)
    maps = torch.randn(2, 300, 3, *[4] * dimension)
    context = masked.context(*maps, FORWARD.expand(300, 2))
    drawn, log_probability, probabilities = masked.draw(context, min(2, len(rotations)), most_probable=False)
    assert set(drawn.flatten().tolist()) == set(rotations)
    assert (probabilities[:, left_out] == 0).all()
    expected = full.logits(full.context(*maps, FORWARD.expand(300, 2))).detach()[:, rotations].softmax(1)
    torch.testing.assert_close(probabilities[:, rotations], expected)
    judged, entropy = masked.evaluate(context, drawn)
    torch.testing.assert_close(judged, log_probability)
    torch.testing.assert_close(entropy, torch.special.entr(expected).sum(1))
    (judged.sum() + entropy.sum()).backward()
    assert all(p.grad.isfinite().all() for p in masked.parameters())
    assert masked.preferences.grad[0, 1, left_out].abs().sum() == 0
    assert masked.preferences.grad[0, 1, rotations].abs().min() > 0


def test_constant_maps_give_uniform_probabilities():
    agent = policy()
    flat = torch.ones(1, 3, 4, 4, 4)
    probabilities = agent.draw(agent.context(flat, flat, FORWARD), 1, most_probable=False)[2]
    torch.testing.assert_close(probabilities, torch.full((1, 24), 1 / 24))


@pytest.mark.parametrize("kind", ["contextual", "global"])
@pytest.mark.parametrize("count", [1, 3])
def test_evaluate_returns_the_log_probability_of_the_draw(kind, count):
    agent = policy(kind=kind)
    context = agent.context(*torch.randn(2, 4, 3, 6, 4, 5), torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]]))
    rotations, drawn, probabilities = agent.draw(context, count, most_probable=False)
    judged, entropy = agent.evaluate(context, rotations)
    torch.testing.assert_close(judged, drawn)
    torch.testing.assert_close(drawn, plackett_luce.log_probability(agent.logits(context), rotations))
    torch.testing.assert_close(entropy, torch.special.entr(probabilities).sum(1))
    assert (entropy <= math.log(24) + 1e-5).all()


def test_gradient_comes_through_evaluate_only():
    agent = policy()
    main, auxiliary = (torch.randn(2, 3, 4, 4, 4, requires_grad=True) for _ in range(2))
    context = agent.context(main, auxiliary, torch.tensor([[0, 1], [0, 1]]))
    assert not any(x.requires_grad for x in context.values())
    rotations, drawn, probabilities = agent.draw(context, 2, most_probable=False)
    assert not drawn.requires_grad
    assert not probabilities.requires_grad
    log_probability, _ = agent.evaluate(context, rotations)
    log_probability.sum().backward()
    assert main.grad is None
    assert auxiliary.grad is None
    assert (agent.projections.grad.abs().sum((1, 2)) > 0).all()
    assert agent.sharpness.grad.abs() > 0
    assert agent.preferences.grad[0, 1].abs().sum() > 0
    assert agent.preferences.grad[1, 0].abs().sum() == 0


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match='must be "contextual" or "global"'):
        policy(kind="random")
