"""The weight agents' PPO on problems whose answer is known: updates of noise, and what to reward whom for.

Noise: by how many nats does an update move an agent of 32 actions if the rewards are noise? With the paper's learning
rate and no limits, and with ours.

Exploring: an intra agent of 32 and an inter agent of 4 actions share p, which falls with their squared distances from
answers, differently in every sample. They explore at once or in turns, and are rewarded for p or for what it gains over
that of their mean actions, whose iterations count, too. Printed is how much p their mean actions fall short of after
equally many iterations.

    python benchmarks/weight_agents.py
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn import functional

from rl_nnunet.agents.ppo import PPOConfig
from rl_nnunet.agents.weights import WEIGHT_PPO, InterAgent, IntraAgent, WeightAgent, WeightReport
from rl_nnunet.policies.gaussian import RecurrentGaussianPolicy
from rl_nnunet.policies.rollout import Rollout

CPU = torch.device("cpu")
SAMPLES, ITERATIONS, SEEN = 2, 3, 8
PAPER = replace(
    WEIGHT_PPO,
    policy_learning_rate=1e-2,
    critic_learning_rate=1e-2,
    transitions_per_update=64,
    minibatch_size=32,
    target_kl=math.inf,
    smallest_spread=0.0,
)
WEIGHT_OF_ERROR = {"intra": 0.002, "inter": 0.01}


def make_agents(config: PPOConfig, observation_size: int) -> dict[str, WeightAgent]:
    """Return the two agents."""
    policies = [RecurrentGaussianPolicy(observation_size, actions) for actions in (32, 4)]
    return {"intra": IntraAgent(policies[0], config, CPU), "inter": InterAgent("abcd", policies[1], config, CPU)}


def play(agents: dict[str, WeightAgent], observations: Tensor, draw: bool) -> Rollout:
    """Let agents act on observations (T, B, S)."""
    policies = {name: agent.policy for name, agent in agents.items()}
    sizes = {name: policy.mean.out_features for name, policy in policies.items()}
    size = observations.shape[1]
    rollout = Rollout(policies, {n: torch.ones(size, s, dtype=torch.bool) for n, s in sizes.items()}, draw)
    for observed in observations:
        rollout.act(dict.fromkeys(policies, observed))
    return rollout


def report(rollout: Rollout, gains: Tensor) -> WeightReport:
    """Return what the agents learn from."""
    episodes = rollout.episodes()
    return WeightReport({}, 0.0, 0.0, {n: e.actions[:, -1] for n, e in episodes.items()}, episodes, gains)


def divergence_under_noise(config: PPOConfig, updates: int = 6) -> list[float]:
    """Return the exact KL divergence of each update of the intra agent, from before to after it."""
    torch.manual_seed(0)
    agents = make_agents(config, 320)
    del agents["inter"]
    agent, center, moved = agents["intra"], torch.randn(320), []
    while len(moved) < updates:
        before, seen, logs = copy.deepcopy(agent.policy), [], {}
        while "approximate_kl_intra" not in logs:
            observations = center + 0.3 * torch.randn(ITERATIONS, SAMPLES, 320)
            gains = 0.01 * torch.randn(SAMPLES, ITERATIONS + 1).cumsum(1)
            logs = agent.learn(report(play(agents, observations, draw=True), gains))
            seen.append(observations.transpose(0, 1))
        with torch.no_grad():
            old, new = (policy._gaussian(policy._means(torch.cat(seen))) for policy in (before, agent.policy))
            moved.append(kl_divergence(old, new).sum(-1).mean().item())
    return moved


def shortfall(in_turns: bool, over_the_mean: bool, seed: int, iterations: int) -> dict[str, float]:
    """Return how much of p the agents' mean actions fall short of."""
    torch.manual_seed(7)
    answers = {"intra": 0.5 * torch.randn(32), "inter": torch.tensor([1.0, -1.0, 0.5, 0.0])}
    torch.manual_seed(seed)
    agents = make_agents(WEIGHT_PPO, SEEN)
    used = step = 0

    def cost(name: str, actions: Tensor) -> Tensor:
        return WEIGHT_OF_ERROR[name] * (actions - answers[name]).square().sum(-1)

    while used < iterations:
        step += 1
        observations = torch.randn(ITERATIONS, SAMPLES, SEEN)
        sensitivity = 0.3 + 1.4 * torch.rand(SAMPLES, 1)
        drift = 0.01 * torch.randn(SAMPLES, ITERATIONS + 1).cumsum(1)  # what p does without any action
        rollouts = {draw: play(agents, observations, draw) for draw in (True, False)}
        explorers = [("intra", "inter")[step % 2]] if in_turns else list(agents)

        def p(drawn: Sequence[str]) -> Tensor:
            actions = {name: rollouts[name in drawn].episodes()[name].actions for name in agents}  # noqa: B023
            padded = {name: functional.pad(action, (0, 0, 1, 0)) for name, action in actions.items()}
            return drift - sensitivity * sum(cost(name, action) for name, action in padded.items())  # noqa: B023

        gains = p(explorers) - (p([]) if over_the_mean else 0)
        for name in explorers:
            agents[name].learn(report(rollouts[True], gains))
        used += SAMPLES * (1 + ITERATIONS * (1 + over_the_mean))
    episodes = play(agents, torch.randn(1, 64, SEEN), draw=False).episodes()
    return {name: cost(name, episodes[name].actions).mean().item() for name in agents}


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=40_000, help="of single samples (default: 40000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    for name, config in (("the paper's", PAPER), ("ours", WEIGHT_PPO)):
        moved = divergence_under_noise(config)
        print(f"KL of an update of noise, {name}: mean {sum(moved) / len(moved):.3f}, highest {max(moved):.3f}")
    for over_the_mean in (False, True):
        for in_turns in (False, True):
            rows = [shortfall(in_turns, over_the_mean, seed, arguments.iterations) for seed in arguments.seeds]
            values = {name: [round(row[name], 4) for row in rows] for name in rows[0]}
            reward, when = ("p", "p over the mean actions'")[over_the_mean], ("at once", "in turns")[in_turns]
            print(f"{reward}, {when}: {values}")


if __name__ == "__main__":
    main()
