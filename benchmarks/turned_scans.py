"""Turned scans: paired phantoms whose MR is turned by a random one of the 24 cube rotations, at several noise levels.

The network, loss and agents are those of ``RLXAlignTrainer``; the hearts are rendered into memory, so that only the
agents are measured. On held-out hearts is reported

- how often the most probable rotation is the right one (chance: 1 in 24), for the contextual and for the paper's global
  policy;
- the Dice of the MR, mean over structures and hearts, with its CT beside it and alone. ``carried`` is what is planned
  for several scans of a patient: the stages before the first aligned one follow its pose. ``contextual`` leaves them
  as they are, as planned for scans of different patients; ``printed`` is that behind the paper's attention, which does
  not know positions, ``unattended`` that without any. The policy ``none`` is the network without RL-XAlign, whose
  branches do not see each other. ``stock`` is what a user would do first: nnU-Net's network on two channels, a scan and
  its companion, which it does not see in a quarter of the samples either. All train for the same time, and are tested
  at each of the given minutes.

``--data blobs`` asks the question of what the CT can tell in its purest form: two ellipses in a square, whose MR is
little but noise (SD in units of the contrast), turned by quarters.

    python benchmarks/turned_scans.py --minutes 5 10 --noise 200 --policies carried stock none --seeds 0 1 2
    python benchmarks/turned_scans.py --data blobs --minutes 0.5 1.5 --noise 4 --policies carried contextual stock none
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from workflow import STOCK_ARGUMENTS, STOCK_CLASS

from rl_nnunet.agents.pose import PoseAgent, PoseReport
from rl_nnunet.agents.rewards import anatomical_similarities, label_cube
from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.losses.adaptive_weights import AdaptiveWeights, AdaptiveWeightsConfig
from rl_nnunet.losses.branched_loss import AlignmentLossConfig, BranchedLoss
from rl_nnunet.networks.rl_u2net import RLU2Net, split_rows
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
Scans = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Normalized CT, MR and labels of a patient, each (1, *spatial), unturned."""
POLICIES: dict[str, dict[str, Any]] = {
    "contextual": {},
    "global": {"xalign": {"policy": "global"}},
    "printed": {"xalign": {"position_bias": False}},
    "unattended": {"xalign": {"cross_modal_attention": False}},
    "carried": {"carried_stages": [0, 1]},
    "none": {"aligned_stages": [], "windows": [], "turnable_axes": []},
    "stock": {},
}
"""Entries of the plans."""
ALONE = 0.25
"""Samples whose scans do not see each other, as it is planned."""
BATCH_SIZES = {2: 8, 3: 2}
"""By dimension."""


class TwoChannels(nn.Module):
    """A network on two channels, a scan and its companion, in the form of one of two branches."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.decoder = network.decoder
        self.xalign = nn.ModuleDict()

    def forward(self, x: torch.Tensor) -> BranchOutput:
        """Segment each of both scans beside the other."""
        ct, mr = x.chunk(2, dim=1)
        samples = list(range(len(x)))
        is_seen = torch.rand(len(x), *[1] * (x.ndim - 1)) >= (ALONE if self.training else 0)
        rows = torch.cat((torch.cat((ct, mr * is_seen), 1), torch.cat((mr, ct * is_seen), 1)))
        return BranchOutput(split_rows(self.network(rows), (len(x), len(x))), [samples, samples], [], [], [])

    forward_branches = forward


def make_hearts(count: int, first_seed: int, noise: float) -> list[Scans]:
    """Return the scans of `count` hearts."""
    config = HeartPhantomConfig(mr_noise=noise)
    hearts = []
    for seed in tqdm(range(first_seed, first_seed + count), desc="hearts"):
        pair = make_heart_pair(seed, SIZE, config=config)
        ct = torch.from_numpy(np.clip(pair.ct, -200, 500).astype(np.float32))[None]
        mr = torch.from_numpy(pair.mr.astype(np.float32))[None]
        labels = torch.from_numpy(pair.ct_labels.astype(np.int16))[None]
        hearts.append(((ct - ct.mean()) / ct.std(), (mr - mr.mean()) / mr.std(), labels))
    return hearts


def make_blobs(count: int, first_seed: int, noise: float) -> list[Scans]:
    """Return the scans of `count` squares with two ellipses, whose MR is inverted."""
    blobs, generator = [], torch.Generator().manual_seed(first_seed)
    rows, columns = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float32)] * 2, indexing="ij")
    for _ in range(count):
        labels = torch.zeros(SIZE, SIZE)
        for label in (1, 2):
            y, x = SIZE / 4 + SIZE / 2 * torch.rand(2, generator=generator)
            height, width = 3 + 4 * torch.rand(2, generator=generator)
            labels[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1] = label
        spread = torch.randn(2, SIZE, SIZE, generator=generator)
        ct, mr = 1.5 * labels + 0.3 * spread[0], noise * spread[1] - labels
        blobs.append(((ct - ct.mean())[None] / ct.std(), (mr - mr.mean())[None] / mr.std(), labels.short()[None]))
    return blobs


def make_network(policy: str, dimension: int) -> RLU2Net | TwoChannels:
    """Build the network from plan entries, as nnU-Net would."""
    stages, cube = len(FEATURES), (1,) * dimension
    strides = [[1] * dimension] + [[2] * dimension] * (stages - 1)
    layout = BranchLayout((Branch("CT", (0,)), Branch("MRI", (1,))), "unpaired")
    arguments = {
        "n_stages": stages, "features_per_stage": FEATURES, "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
        "kernel_sizes": [[3] * dimension] * stages, "strides": strides, "n_blocks_per_stage": (1, 2, 2)[:stages],
        "n_conv_per_stage_decoder": [1] * (stages - 1), "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        **branch_arguments(layout, (0.0, 0.0), strides, cube, (SIZE,) * dimension),
    }  # fmt: skip
    for name, value in POLICIES[policy].items():
        arguments[name] = arguments[name] | value if isinstance(value, dict) else value
    name = RLU2NetPlan.network_class
    if policy == "stock":
        name, arguments = STOCK_CLASS, {key: arguments[key] for key in STOCK_ARGUMENTS if key in arguments}
    imported = ("conv_op", "norm_op", "nonlin")
    network = get_network_from_plans(name, arguments, imported, 2, CLASSES + 1, deep_supervision=True)
    return TwoChannels(network) if policy == "stock" else network


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


def draw_batch(
    hearts: list[Scans], generator: np.random.Generator, size: int
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return data, targets (CT's labels, then MR's) and the rotations by which the MR were turned."""
    data, target, drawn, dimension = [], [], [], hearts[0][0].ndim - 1
    for heart in generator.integers(len(hearts), size=size):
        ct, mr, labels = hearts[heart]
        rotation = int(generator.integers(len(rotation_matrices(dimension))))
        data.append(torch.cat((ct, rotate(mr, rotation, dimension))))
        target.append(torch.cat((labels, rotate(labels, rotation, dimension))))
        drawn.append(rotation)
    return torch.stack(data), torch.stack(target), drawn


def train(
    network: RLU2Net | TwoChannels, hearts: list[Scans], minutes: Sequence[float], seed: int
) -> Iterator[dict[str, float]]:
    """Train network and agents for some time; whenever some minutes are over, yield steps and CPU minutes so far."""
    loss = make_loss()
    ppo, cpu = RLXAlignTrainer.settings.ppo, torch.device("cpu")
    agents = [PoseAgent(int(stage), module.policy, 2, ppo, cpu) for stage, module in network.xalign.items()]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    generator = np.random.default_rng(seed)
    elapsed, cpu_seconds, steps = 0.0, 0.0, 0
    with tqdm(total=round(minutes[-1] * 60), unit="s", desc="training") as bar:
        for end in minutes:
            network.train()
            network.decoder.deep_supervision = True
            while elapsed < end * 60:
                start, cpu_start = time.monotonic(), time.process_time()
                similarity = train_step(network, hearts, loss, optimizer, agents, generator, elapsed / minutes[-1] / 60)
                steps += 1
                elapsed += time.monotonic() - start
                cpu_seconds += time.process_time() - cpu_start
                bar.set_postfix(steps=steps, similarity=f"{similarity:.2f}")
                bar.n = round(elapsed)
            yield {"minutes": end, "steps": steps, "cpu_minutes": round(cpu_seconds / 60, 1)}


def train_step(
    network: RLU2Net | TwoChannels,
    hearts: list[Scans],
    loss: BranchedLoss,
    optimizer: torch.optim.Optimizer,
    agents: list[PoseAgent],
    generator: np.random.Generator,
    progress: float,
) -> float:
    """Take a step; return the similarity of the drawn rotations at the first stage, NaN where there is none."""
    data, target, _ = draw_batch(hearts, generator, BATCH_SIZES[hearts[0][0].ndim - 1])
    scales = [target] + [
        F.interpolate(target.float(), scale_factor=0.5**i, mode="nearest-exact").short()
        for i in range(1, len(FEATURES) - 1)
    ]
    output = network(data)
    optimizer.zero_grad(set_to_none=True)
    loss(output, scales).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
    optimizer.step()
    if not output.alignments:  # without XAlign, or where every sample's branches train alone
        return np.nan
    report = report_of(network, output, target, loss, progress)
    logs = {key: value for agent in agents for key, value in agent.learn(report).items()}
    return float(logs[f"similarity_stage{agents[0].stage}"])


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
def test(network: RLU2Net | TwoChannels, hearts: list[Scans], seed: int) -> dict[str, float]:
    """Return how often the most probable rotation is right, and the Dice of CT and MR together and of the MR alone."""
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
                "right": share_right(paired, rotation, heart[0].ndim - 1),
                "CT Dice": mean_dice(paired.logits[0], target[:, 0]),
                "MR Dice with CT": mean_dice(paired.logits[1], target[:, 1]),
                "MR Dice alone": mean_dice(network.forward_branches(alone).logits[1], target[:, 1]),
            }
        )
    return pd.DataFrame(rows).mean().to_dict()


def share_right(output: BranchOutput, rotation: int, dimension: int) -> float:
    """Return how often the most probable rotation is right, over stages and both directions; NaN without stages."""
    right = []
    for alignment in output.alignments:
        for (main, _), chosen in zip(alignment.context["branches"].tolist(), alignment.rotations, strict=True):
            # The MR was turned by `rotation`: a turned CT fits the MR, an MR turned back fits the CT.
            right.append(chosen[0].item() == (inverse(rotation, dimension) if main == 0 else rotation))
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
    parser.add_argument("--data", choices=("hearts", "blobs"), default="hearts")
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[12], help="training time of each network, ascending (default: 12)"
    )
    parser.add_argument("--policies", nargs="+", default=["carried", "none"], choices=list(POLICIES))
    parser.add_argument("--patients", type=int, help="for training (default: 64 hearts, 4000 blobs)")
    parser.add_argument("--held_out", type=int, default=64, help="patients, one turn each (default: 64)")
    parser.add_argument("--noise", type=float, nargs="+", default=[50], help="SD of the MR's noise (default: 50)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    rows = []
    for noise in arguments.noise:
        make, count, dimension = (make_hearts, 64, 3) if arguments.data == "hearts" else (make_blobs, 4000, 2)
        training, held_out = make(arguments.patients or count, 0, noise), make(arguments.held_out, 10_000, noise)
        for seed in arguments.seeds:
            for policy in arguments.policies:
                seed_everything(seed)
                network = make_network(policy, dimension)
                for reached in train(network, training, arguments.minutes, seed):
                    row = {"noise": noise, "policy": policy, "seed": seed, **reached}
                    rows.append({**row, **test(network, held_out, seed + 1)})
                    print(json.dumps(rows[-1]), flush=True)
    results = pd.DataFrame(rows).drop(columns="seed").groupby(["noise", "policy", "minutes"], sort=False)
    print(results.agg(["mean", "std"]).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
