"""PPO against closed forms, torchrl, a bandit with a known best arm, and its own checkpoint."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from rl_nnunet.agents.ppo import (
    PPO,
    Critic,
    PPOConfig,
    clipped_surrogate,
    one_step_advantage,
    standardize,
    value_loss,
)
from rl_nnunet.policies.plackett_luce import draw, entropy, log_probability


class BanditPolicy(nn.Module):
    """Preferences over arms; with `contexts`, one row of preferences per context."""

    def __init__(self, arms: int, contexts: int = 1):
        super().__init__()
        self.preferences = nn.Parameter(torch.zeros(contexts, arms))

    def evaluate(self, context, action):
        logits = self.preferences[context["row"]]
        return log_probability(logits, action), entropy(logits)


def play(ppo: PPO, best: torch.Tensor, steps: int, batch: int = 16) -> dict[str, float] | None:
    """Pull one arm per row; the reward is 1 for the best arm of the row. Returns the last update's metrics."""
    metrics = None
    for _ in range(steps):
        row = torch.randint(len(best), (batch,))
        state = torch.ones(batch, 3)
        logits = ppo.policy.preferences[row]
        action = draw(logits, 1)
        reward = (action[:, 0] == best[row]).float()
        ppo.transitions.record(state, {"row": row}, action, log_probability(logits, action), reward, state)
        metrics = ppo.update_if_ready() or metrics
    return metrics


def test_surrogate_is_schulmans_in_every_case():
    """-mean(A * ratio) unless the step already went past the clip in the direction that the advantage favors."""
    for ratio, advantage in itertools.product((0.5, 0.79, 0.9, 1.0, 1.1, 1.21, 2.0), (-3.0, -0.5, 0.0, 2.0)):
        if advantage >= 0:
            expected = -advantage * min(ratio, 1.2)
        else:
            expected = -advantage * max(ratio, 0.8)
        new = torch.tensor([math.log(ratio) - 1.0], requires_grad=True)
        loss = clipped_surrogate(new, torch.tensor([-1.0]), torch.tensor([advantage]), clip=0.2)
        assert loss.item() == pytest.approx(expected, abs=1e-6)
        loss.backward()
        stopped = ratio > 1.2 if advantage >= 0 else ratio < 0.8
        assert new.grad.item() == pytest.approx(0 if stopped else -advantage * ratio, abs=1e-5)


def test_surrogate_is_not_equation_11_as_printed_for_negative_advantages():
    ratio, advantage = torch.tensor([2.0]), torch.tensor([-1.0])
    printed = -(advantage * torch.minimum(ratio, ratio.clamp(0.8, 1.2))).mean()
    assert printed.item() == pytest.approx(1.2)
    assert clipped_surrogate(ratio.log(), torch.zeros(1), advantage, 0.2).item() == pytest.approx(2.0)


def test_losses_are_those_of_torchrl():
    pytest.importorskip("torchrl")
    from tensordict import TensorDict
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
    from torchrl.modules import ValueOperator
    from torchrl.objectives import ClipPPOLoss

    torch.manual_seed(0)
    n, clip, discount = 40, 0.2, 0.9
    network, critic = nn.Linear(3, 5), Critic()
    value_head = nn.Sequential(critic, nn.Unflatten(0, (n, 1)))
    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(network, in_keys=["observation"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(["logits"], ["action"], distribution_class=torch.distributions.Categorical),
    )
    loss = ClipPPOLoss(
        actor,
        ValueOperator(value_head, in_keys=["observation"]),
        clip_epsilon=clip,
        entropy_coeff=0.01,
        critic_coeff=1.0,
        loss_critic_type="l2",
    )
    loss.set_keys(sample_log_prob="sample_log_prob")
    state, reward, next_value = torch.randn(n, 3), torch.randn(n), torch.randn(n)
    action, old = torch.randint(5, (n,)), torch.randn(n) - 1.6
    advantage = standardize(one_step_advantage(reward, critic(state).detach(), next_value, discount))
    data = TensorDict(
        {
            "observation": state,
            "action": action,
            "sample_log_prob": old,
            "advantage": advantage[:, None],
            "value_target": (reward + discount * next_value)[:, None],
        },
        [n],
    )
    expected = loss(data)

    logits = network(state)
    new = log_probability(logits, action[:, None])
    ours = clipped_surrogate(new, old, advantage, clip)
    torch.testing.assert_close(ours, expected["loss_objective"])
    torch.testing.assert_close(value_loss(reward, critic(state), next_value, discount), expected["loss_critic"])
    torch.testing.assert_close(-0.01 * entropy(logits).mean(), expected["loss_entropy"])
    gradient = torch.autograd.grad(ours, network.weight)[0]
    theirs = torch.autograd.grad(expected["loss_objective"], list(loss.actor_network_params.values(True, True)))
    torch.testing.assert_close(gradient, next(g for g in theirs if g.dim() == 2))


def test_advantage_and_value_loss():
    reward, value, next_value = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.0]), torch.tensor([2.0, -1.0])
    torch.testing.assert_close(one_step_advantage(reward, value, next_value, 0.9), torch.tensor([2.3, 0.1]))
    value.requires_grad_()
    next_value.requires_grad_()
    loss = value_loss(reward, value, next_value, 0.9)
    assert loss.item() == pytest.approx((2.3**2 + 0.1**2) / 2)
    loss.backward()
    torch.testing.assert_close(value.grad, torch.tensor([-2.3, -0.1]))
    assert next_value.grad is None


def test_standardize():
    x = torch.randn(50) * 7 + 3
    torch.testing.assert_close(standardize(x), (x - x.mean()) / x.std(correction=0))
    assert standardize(torch.tensor([4.2])).tolist() == [0]
    assert standardize(torch.full((7,), 1234.567)).tolist() == [0] * 7


def test_critic_shapes():
    critic = Critic(state_size=4, hidden_size=8)
    assert critic(torch.zeros(5, 4)).shape == (5,)
    assert critic(torch.randn(5, 4)).tolist() == [0] * 5
    assert sum(p.numel() for p in critic.parameters()) == (4 * 8 + 8) + (8 * 8 + 8) + (8 + 1)


def test_update_waits_for_enough_transitions_and_clears_them():
    ppo = PPO(BanditPolicy(3), Critic(), PPOConfig(transitions_per_update=40))
    assert play(ppo, torch.tensor([1]), steps=2) is None
    assert len(ppo) == 32
    metrics = play(ppo, torch.tensor([1]), steps=1)
    assert len(ppo) == 0
    assert set(metrics) == {
        "policy_loss",
        "value_loss",
        "entropy",
        "clip_fraction",
        "approximate_kl",
        "reward",
        "steps",
    }
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["approximate_kl"] >= 0


def test_bandit_is_learnt():
    torch.manual_seed(0)
    ppo = PPO(BanditPolicy(6), Critic(), PPOConfig(policy_learning_rate=0.02))
    metrics = play(ppo, torch.tensor([4]), steps=200)
    assert ppo.policy.preferences.softmax(-1)[0, 4] > 0.9
    assert metrics["reward"] > 0.9
    assert metrics["entropy"] < 0.5


def test_contextual_bandit_is_learnt():
    torch.manual_seed(0)
    best = torch.tensor([2, 0, 3])
    ppo = PPO(BanditPolicy(4, contexts=3), Critic(), PPOConfig(policy_learning_rate=0.02))
    play(ppo, best, steps=300)
    assert (ppo.policy.preferences.softmax(-1)[range(3), best] > 0.8).all()


def test_critic_learns_the_discounted_value():
    """A constant reward of 1 from a state that leads to itself is worth 1 / (1 - discount)."""
    torch.manual_seed(0)
    config = PPOConfig(discount=0.5, critic_learning_rate=0.02, transitions_per_update=16)
    ppo = PPO(BanditPolicy(2), Critic(), config)
    state, action = torch.ones(16, 3), torch.zeros(16, 1, dtype=torch.long)
    for _ in range(150):
        ppo.transitions.record(
            state,
            {"row": action[:, 0]},
            action,
            torch.full((16,), -math.log(2)),
            torch.ones(16),
            state,
        )
        ppo.update_if_ready()
    assert ppo.critic(state)[0].item() == pytest.approx(2, abs=0.1)


def test_one_update_is_the_one_written_by_hand():
    """K = 2 epochs of one minibatch, repeated with nothing but autograd and Adam."""
    torch.manual_seed(0)
    n, config = 8, PPOConfig(transitions_per_update=8, epochs=2, minibatch_size=8, max_gradient_norm=0.1)
    ppo = PPO(BanditPolicy(4), Critic(), config)
    policy, critic = copy.deepcopy(ppo.policy), copy.deepcopy(ppo.critic)
    state, next_state, reward = torch.randn(n, 3), torch.randn(n, 3), torch.randn(n)
    context, action = {"row": torch.zeros(n, dtype=torch.long)}, torch.randint(4, (n, 1))
    old = torch.full((n,), -math.log(4))
    ppo.transitions.record(state, context, action, old, reward, next_state)
    metrics = ppo.update_if_ready()

    with torch.no_grad():
        target = reward + 0.9 * critic(next_state)
        advantage = target - critic(state)
        advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    optimizers = [torch.optim.Adam(module.parameters(), lr=3e-3, eps=1e-5) for module in (policy, critic)]
    value_losses = []
    for _ in range(2):
        log_p, bonus = policy.evaluate(context, action)
        ratio = (log_p - old).exp()
        surrogate = torch.stack([ratio * advantage, ratio.clamp(0.8, 1.2) * advantage]).amin(0).mean()
        error = (critic(state) - target).pow(2).mean()
        value_losses.append(error.item())
        for module, optimizer, loss in zip(
            (policy, critic), optimizers, (-surrogate - 0.01 * bonus.mean(), error), strict=True
        ):
            gradients = torch.autograd.grad(loss, list(module.parameters()))
            norm = torch.cat([g.flatten() for g in gradients]).norm()
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter.grad = gradient * min(1, 0.1 / norm)
            optimizer.step()
    torch.testing.assert_close(ppo.policy.preferences, policy.preferences)
    torch.testing.assert_close(dict(ppo.critic.named_parameters()), dict(critic.named_parameters()))
    assert metrics["value_loss"] == pytest.approx(sum(value_losses) / 2, rel=1e-5)
    assert metrics["reward"] == pytest.approx(reward.mean().item())


def test_a_checkpoint_continues_bit_identically():
    torch.manual_seed(0)
    best = torch.tensor([2, 0])
    ppo = PPO(BanditPolicy(3, contexts=2), Critic(), PPOConfig())
    play(ppo, best, steps=6)
    assert len(ppo) == 32  # the buffer is part of the checkpoint
    saved = copy.deepcopy((ppo.state_dict(), ppo.policy.state_dict(), torch.get_rng_state()))
    play(ppo, best, steps=7)

    restored = PPO(BanditPolicy(3, contexts=2), Critic(), PPOConfig())
    restored.load_state_dict(saved[0])
    restored.policy.load_state_dict(saved[1])
    torch.set_rng_state(saved[2])
    play(restored, best, steps=7)
    assert len(restored) == len(ppo)
    assert torch.equal(restored.policy.preferences, ppo.policy.preferences)
    for ours, theirs in zip(restored.critic.parameters(), ppo.critic.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_checkpoint_is_plain_enough_for_a_safe_load(tmp_path):
    ppo = PPO(BanditPolicy(3), Critic(), PPOConfig())
    play(ppo, torch.tensor([0]), steps=5)
    torch.save(ppo.state_dict(), tmp_path / "ppo.pth")
    ppo.load_state_dict(torch.load(tmp_path / "ppo.pth", weights_only=True))
    assert len(ppo) == 16


def test_update_leaves_the_surroundings_alone():
    """Other gradients, autocast and no_grad around it, and a frozen parameter of the policy."""
    torch.manual_seed(0)
    policy = BanditPolicy(3)
    policy.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    other = nn.Parameter(torch.ones(2))
    other.grad = torch.full((2,), 7.0)
    ppo = PPO(policy, Critic(), PPOConfig(transitions_per_update=16, minibatch_size=5))  # 5, 5, 5, 1
    policy.preferences.grad = torch.full((1, 3), 1e6)
    before = policy.preferences.detach().clone()
    dtypes = []
    hook = ppo.critic.layers[0].register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        metrics = play(ppo, torch.tensor([1]), steps=1)
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
    hook.remove()
    assert set(dtypes) == {torch.float32}
    assert all(math.isfinite(value) for value in metrics.values())
    assert torch.isfinite(policy.preferences).all()
    assert not torch.equal(policy.preferences, before)
    assert policy.frozen.eq(1).all()
    assert other.grad.eq(7).all()
    assert policy.preferences.grad is None
    assert all(p.grad is None for p in ppo.critic.parameters())


def test_a_single_transition_per_update_is_harmless():
    ppo = PPO(BanditPolicy(3), Critic(), PPOConfig(transitions_per_update=1, minibatch_size=1))
    metrics = play(ppo, torch.tensor([0]), steps=3, batch=1)
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transitions_per_update", 0),
        ("epochs", 0),
        ("minibatch_size", 0),
        ("clip", 0.0),
        ("clip", 1.0),
        ("discount", 1.1),
        ("discount", -0.1),
        ("policy_learning_rate", 0.0),
        ("critic_learning_rate", -1.0),
        ("entropy_weight", -0.01),
        ("max_gradient_norm", 0.0),
        ("discount", math.nan),
        ("target_kl", 0.0),
        ("smallest_spread", -1e-3),
    ],
)
def test_configuration_is_checked(name, value):
    with pytest.raises(ValueError, match=name):
        PPOConfig(**{name: value})
