"""Turned scans: paired phantoms whose MR is turned by a random one of the 24 cube rotations, at several noise levels.

The network, loss and agents are those of ``RLXAlignTrainer``; the hearts are rendered into memory, so that only the
agents are measured. On held-out hearts is reported

- how often the most probable rotation is the right one (chance: 1 in 24), for the contextual and for the paper's global
  policy;
- the Dice of the MR, mean over structures and hearts, with its CT beside it and alone. The policy ``none`` is the
  network without RL-XAlign, whose branches do not see each other; ``printed`` is the contextual policy behind the
  paper's attention, which does not know positions. All train for the same time.

    python benchmarks/turned_scans.py --minutes 8 --noise 200 --policies contextual printed none --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch.nn import functional as F
from tqdm import tqdm

from rl_nnunet.agents.pose import PoseAgent, PoseReport
from rl_nnunet.agents.rewards import anatomical_similarities, label_cube
from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.losses.adaptive_weights import AdaptiveWeights, AdaptiveWeightsConfig
from rl_nnunet.losses.branched_loss import AlignmentLossConfig, BranchedLoss
from rl_nnunet.networks.rl_u2net import RLU2Net
from rl_nnunet.outputs import BranchOutput
from rl_nnunet.phantoms.heart.cases import make_heart_pair
from rl_nnunet.phantoms.heart.config import HeartPhantomConfig
from rl_nnunet.plans.rl_u2net import RLU2NetPlan, branch_arguments
from rl_nnunet.policies.rotations import inverse, rotate, rotation_matrices
from rl_nnunet.targets import BranchTargets
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.random_state import seed_everything
from rl_nnunet.training.schedules import LEARNING_RATE

SIZE = 32
CLASSES = 7
FEATURES = (8, 16, 32)
POLICIES: dict[str, dict[str, Any]] = {
    "contextual": {},
    "global": {"xalign": {"policy": "global"}},
    "printed": {"xalign": {"position_bias": False}},
    "none": {"aligned_stages": [], "windows": [], "turnable_axes": []},
}
"""Entries of the plans."""
BATCH_SIZE = 2


def make_hearts(count: int, first_seed: int, noise: float) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return normalized CT, MR and labels of `count` hearts, each (1, 32, 32, 32), unturned."""
    config = HeartPhantomConfig(mr_noise=noise)
    hearts = []
    for seed in tqdm(range(first_seed, first_seed + count), desc="hearts"):
        pair = make_heart_pair(seed, SIZE, config=config)
        ct = torch.from_numpy(np.clip(pair.ct, -200, 500).astype(np.float32))[None]
        mr = torch.from_numpy(pair.mr.astype(np.float32))[None]
        labels = torch.from_numpy(pair.ct_labels.astype(np.int16))[None]
        hearts.append(((ct - ct.mean()) / ct.std(), (mr - mr.mean()) / mr.std(), labels))
    return hearts


def make_network(policy: str) -> RLU2Net:
    """Build the network from plan entries, as nnU-Net would."""
    stages = len(FEATURES)
    strides = [[1] * 3] + [[2] * 3] * (stages - 1)
    layout = BranchLayout((Branch("CT", (0,)), Branch("MRI", (1,))), "unpaired")
    arguments = {
        "n_stages": stages, "features_per_stage": FEATURES, "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3] * 3] * stages, "strides": strides, "n_blocks_per_stage": (1, 2, 2)[:stages],
        "n_conv_per_stage_decoder": [1] * (stages - 1), "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        **branch_arguments(layout, (0.0, 0.0), strides, (1.0,) * 3, (SIZE,) * 3),
    }  # fmt: skip
    for name, value in POLICIES[policy].items():
        arguments[name] = arguments[name] | value if isinstance(value, dict) else value
    return get_network_from_plans(
        RLU2NetPlan.network_class, arguments, ("conv_op", "norm_op", "nonlin"), 2, CLASSES + 1, deep_supervision=True
    )


def make_loss() -> BranchedLoss:
    """Build the trainer's loss from nnU-Net's classes."""
    terms = [
        DeepSupervisionWrapper(
            DC_and_CE_loss({"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, *weights,
                           dice_class=MemoryEfficientSoftDiceLoss),
            (1.0, *(0.0 for _ in FEATURES[2:])),
        )
        for weights in ((0, 1), (1, 0))
    ]  # fmt: skip
    weights = [AdaptiveWeights(2, AdaptiveWeightsConfig()) for _ in range(2)]
    return BranchedLoss(*terms, BranchTargets(2, are_joined=True), *weights, AlignmentLossConfig())


def draw_batch(hearts: list, generator: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return data, targets (CT's labels, then MR's) and the rotations by which the MR were turned."""
    data, target, drawn = [], [], []
    for heart in generator.integers(len(hearts), size=size):
        ct, mr, labels = hearts[heart]
        rotation = int(generator.integers(len(rotation_matrices(3))))
        data.append(torch.cat((ct, rotate(mr, rotation, 3))))
        target.append(torch.cat((labels, rotate(labels, rotation, 3))))
        drawn.append(rotation)
    return torch.stack(data), torch.stack(target), drawn


def train(network: RLU2Net, hearts: list, minutes: float, seed: int) -> int:
    """Train network and agents for some CPU time; return the number of steps."""
    loss = make_loss()
    ppo, cpu = RLXAlignTrainer.settings.ppo, torch.device("cpu")
    agents = [PoseAgent(int(stage), module.policy, 2, ppo, cpu) for stage, module in network.xalign.items()]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    generator = np.random.default_rng(seed)
    network.train()
    start, steps = time.monotonic(), 0
    with tqdm(total=round(minutes * 60), unit="s", desc="training") as bar:
        while (elapsed := time.monotonic() - start) < minutes * 60:
            data, target, _ = draw_batch(hearts, generator, BATCH_SIZE)
            scales = [target] + [
                F.interpolate(target.float(), scale_factor=0.5**i, mode="nearest-exact").short()
                for i in range(1, len(FEATURES) - 1)
            ]
            output = network(data)
            optimizer.zero_grad(set_to_none=True)
            total = loss(output, scales)
            total.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
            optimizer.step()
            steps += 1
            if output.alignments:  # there is none without XAlign, or where every sample's branches train alone
                report = report_of(network, output, target, loss, elapsed / (minutes * 60))
                logs = {key: value for agent in agents for key, value in agent.learn(report).items()}
                bar.set_postfix(steps=steps, similarity=f"{logs[f'similarity_stage{agents[0].stage}']:.2f}")
            bar.n = round(elapsed)
    return steps


def report_of(
    network: RLU2Net, output: BranchOutput, target: torch.Tensor, loss: BranchedLoss, progress: float
) -> PoseReport:
    """Return what the agents learn from, as the trainer does."""
    cubes = torch.stack([label_cube(branch, CLASSES) for branch in target.chunk(2, dim=1)])
    main, auxiliary = output.alignments[0].context["branches"].unbind(1)
    links = torch.tensor(output.link_samples)
    alignments = dict(zip(map(int, network.xalign), output.alignments, strict=True))
    similarities = anatomical_similarities(cubes[main, links], cubes[auxiliary, links])
    return PoseReport(
        {}, 0.0, progress, alignments, output.link_branches, loss.report.matched_links, loss.report.dice, similarities
    )


@torch.no_grad()
def test(network: RLU2Net, hearts: list, seed: int) -> dict[str, float]:
    """Return how often the most probable rotation is right, and the Dice of the MR with its CT and alone."""
    network.eval()
    network.decoder.deep_supervision = False
    generator = np.random.default_rng(seed)
    rows = []
    for heart in tqdm(hearts, desc="testing"):
        data, target, (rotation,) = draw_batch([heart], generator, 1)
        alone = data.clone()
        alone[:, 0] = 0
        paired = network.forward_branches(data)
        rows.append(
            {
                "right": share_right(paired, rotation),
                "MR Dice with CT": mean_dice(paired.logits[1], target[:, 1]),
                "MR Dice alone": mean_dice(network.forward_branches(alone).logits[1], target[:, 1]),
            }
        )
    return pd.DataFrame(rows).mean().to_dict()


def share_right(output: BranchOutput, rotation: int) -> float:
    """Return how often the most probable rotation is right, over stages and both directions; NaN without stages."""
    right = []
    for alignment in output.alignments:
        for (main, _), chosen in zip(alignment.context["branches"].tolist(), alignment.rotations, strict=True):
            # The MR was turned by `rotation`: a turned CT fits the MR, an MR turned back fits the CT.
            right.append(chosen[0].item() == (inverse(rotation, 3) if main == 0 else rotation))
    return float(np.mean(right)) if right else np.nan


def mean_dice(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean Dice over the structures that the labels (1, *spatial) show, of logits (1, classes, *spatial)."""
    predicted = logits.argmax(1)
    overlaps = [((predicted == c) & (labels == c)).sum() for c in range(1, CLASSES + 1)]
    sizes = [((predicted == c).sum() + (labels == c).sum(), (labels == c).any()) for c in range(1, CLASSES + 1)]
    dice = [2 * float(o) / float(size) for o, (size, shown) in zip(overlaps, sizes, strict=True) if shown]
    return float(np.mean(dice))


def main() -> None:
    """Train and test each policy at each noise level; print a row for each as it is done, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12, help="training time of each network (default: 12)")
    parser.add_argument("--policies", nargs="+", default=["contextual", "none"], choices=list(POLICIES))
    parser.add_argument("--hearts", type=int, default=64, help="training hearts (default: 64)")
    parser.add_argument("--held_out", type=int, default=64, help="held-out hearts, one turn each (default: 64)")
    parser.add_argument("--noise", type=float, nargs="+", default=[50], help="SD of the MR's noise (default: 50)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    rows = []
    for noise in arguments.noise:
        training = make_hearts(arguments.hearts, 0, noise)
        held_out = make_hearts(arguments.held_out, 10_000, noise)
        for seed in arguments.seeds:
            for policy in arguments.policies:
                seed_everything(seed)
                network = make_network(policy)
                cpu = time.process_time()
                steps = train(network, training, arguments.minutes, seed)
                minutes = round((time.process_time() - cpu) / 60, 1)
                row = {"noise": noise, "policy": policy, "seed": seed, "steps": steps, "cpu_minutes": minutes}
                rows.append({**row, **test(network, held_out, seed + 1)})
                print(json.dumps(rows[-1]), flush=True)
    results = pd.DataFrame(rows).drop(columns="seed").groupby(["noise", "policy"], sort=False)
    print(results.agg(["mean", "std"]).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
