"""What RL-U2Net costs, as ratios to stock nnU-Net on the same plans, both measured side by side in one run.

Compared are, for each size of network,

- one training step: ``RLXAlignTrainer`` with both branches of a batch of b and all links, its agents' updates included,
  against ``nnUNetTrainer`` with a residual encoder U-Net of the same encoder and decoder and a batch of 2 b, which is
  the same number of images; once without branch dropout and once with the default, where some samples have no links;
- the memory of such steps, each network in a process of its own;
- the prediction of a scan of which only the CT is there, with mirroring, by nnU-Net's predictor.

Times are taken in pairs, ours and stock in turn; reported is the median of the pairs' ratios with their range. An
agent learns in every 16th step or so, so its update is timed where it happens and spread over the steps. The data set
is made, planned and preprocessed by the commands; the training batches are random.

    python benchmarks/cost.py -device cpu --pairs 15
    python benchmarks/cost.py -device cuda --pairs 30 --base_features 16 32 --patch 64 128 --blocks resenc resenc
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contestant import WARM_UP, Contestant, memory_in_new_process, read_preprocessed
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor
from workflow import Workplace, stock_plans

from rl_nnunet.branches import layout_from_dataset_json
from rl_nnunet.plans.rl_u2net import branch_arguments
from rl_nnunet.presence.cases import branches_of_case
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer

DATASET, PLANS = "Dataset532_PhantomHearts", "RLXAlignSmallPlans"
BLOCKS = {"small": (1, 2, 2, 2, 2, 2, 2), "resenc": (1, 3, 4, 6, 6, 6, 6)}
TARGETS = {
    "training step": 1.3,
    "training step, branch dropout": 1.3,
    "training memory": 1.3,
    "CT-only prediction": 1.1,
}


@dataclass(frozen=True)
class Size:
    """The size of a plan.

    Parameters
    ----------
    base_features : int
        Features of the first stage.
    patch : int
        Edge of the patch in voxels.
    blocks : {"small", "resenc"}
        Blocks per stage: those of ``RLXAlignSmallPlanner`` or of nnU-Net's ResEnc planners.
    """

    base_features: int
    patch: int
    blocks: str


def prepare(place: Workplace, edge: int) -> None:
    """Make, convert, plan and preprocess phantom hearts with the commands."""
    phantom = str(place.root / "phantom")
    place.command("rl_nnunet_make_phantom", "-o", phantom, "--cases", "5", "--size", str(edge), "-np", "1")
    place.command("rl_nnunet_convert_mmwhs", "-i", phantom, "-d", "532", "-n", "PhantomHearts", "-np", "1")
    place.command(
        "rl_nnunet_plan_and_preprocess", "-d", "532", "-pl", "RLXAlignSmallPlanner", "-c", "3d_fullres", "-npfp", "1",
        "-np", "1", nnUNet_n_proc_DA="1",
    )  # fmt: skip


def our_plans(plans: dict[str, Any], dataset_json: dict[str, Any], size: Size, batch_size: int) -> dict[str, Any]:
    """Return our plans of another size, with nnU-Net's topology for it."""
    plans = deepcopy(plans)
    entry = plans["configurations"]["3d_fullres"]
    _, strides, kernels, patch, _ = get_pool_and_conv_props(entry["spacing"], [size.patch] * 3, 4, 999999)
    strides, kernels = ([[int(i) for i in stage] for stage in stages] for stages in (strides, kernels))
    stages = len(strides)
    arguments = entry["architecture"]["arch_kwargs"]
    branches = branch_arguments(
        layout_from_dataset_json(dataset_json), arguments["blank_values"], strides, entry["spacing"], patch
    )
    arguments.update(
        {
            **branches,
            "n_stages": stages,
            "features_per_stage": [min(320, size.base_features * 2**stage) for stage in range(stages)],
            "kernel_sizes": kernels,
            "strides": strides,
            "n_blocks_per_stage": BLOCKS[size.blocks][:stages],
            "n_conv_per_stage_decoder": [1] * (stages - 1),
        }
    )
    entry["patch_size"], entry["batch_size"] = [int(i) for i in patch], batch_size
    return plans


class UnpairedContestant(Contestant):
    """A trainer of unpaired branches, or stock nnU-Net, with a batch of the same images.

    Parameters
    ----------
    place : Workplace
        Where the preprocessed data set is.
    size : Size
        Of the network.
    batch_size : int
        Images per branch: ours trains on as many samples, stock on twice as many.
    ours : bool
        ``RLXAlignTrainer``, or else ``nnUNetTrainer``.
    """

    def __init__(self, place: Workplace, size: Size, batch_size: int, ours: bool) -> None:
        plans = read_preprocessed(place, DATASET, PLANS)
        plans = our_plans(plans, read_preprocessed(place, DATASET, "dataset"), size, batch_size)
        if not ours:
            plans = stock_plans(plans, "StockPlans", (0, 1), 2 * batch_size)
        super().__init__(place, DATASET, RLXAlignTrainer if ours else nnUNetTrainer, plans)
        self.batch = self._make_batch(batch_size, ours)
        self.updates: dict[int, float] = {}
        self.steps = 0
        self.agents = self.trainer.agents if ours else {}
        for agent in self.agents.values():
            agent.ppo.update_if_ready = partial(self._timed_update, agent.ppo.update_if_ready)

    def _make_batch(self, batch_size: int, ours: bool) -> dict[str, Any]:
        """Return noise and blocky labels, the same images for both: side by side in a sample, or one a sample."""
        generator = torch.Generator().manual_seed(0)
        patch = self.trainer.configuration_manager.patch_size
        classes = len(self.trainer.label_manager.foreground_labels) + 1
        images = torch.randn((2 * batch_size, 1, *patch), generator=generator)
        coarse = torch.randint(classes, (2 * batch_size, 1, 4, 4, 4), generator=generator).float()
        target = [scale.short() for scale in self.scales_of(coarse)]
        if ours:
            return {"data": _side_by_side(images), "target": [_side_by_side(scale) for scale in target]}
        data = torch.zeros((2 * batch_size, 2, *patch))
        data[:batch_size, 0], data[batch_size:, 1] = images[:batch_size, 0], images[batch_size:, 0]
        return {"data": data, "target": target}

    def _timed_update(self, update: Callable[[], dict | None]) -> dict | None:
        start = self.now()
        metrics = update()
        if metrics is not None:
            self.updates[self.steps] = self.updates.get(self.steps, 0.0) + self.now() - start
        return metrics

    def train(self) -> float:
        """Take one training step; return its seconds without the agents' updates."""
        self.steps += 1
        return super().train() - self.updates.get(self.steps, 0.0)

    def train_until_update(self) -> None:
        """Train until the agents, if there are any, have learned once."""
        while self.agents and not self.updates:
            self.train()

    def warm_up(self) -> None:
        """Train until all transitions of the agents have been there, too."""
        self.train_until_update()
        super().warm_up()

    def update_per_step(self) -> float:
        """Return the seconds of an update, spread over the steps that it takes to collect its transitions."""
        self.train_until_update()
        return median(self.updates.values()) / min(self.updates)

    def predictor(self) -> Callable[[Tensor], Tensor]:
        """Return nnU-Net's prediction with this network."""
        on_device = self.device.type == "cuda"
        predictor = nnUNetPredictor(device=self.device, perform_everything_on_device=on_device, allow_tqdm=False)
        trainer = self.trainer
        trainer.set_deep_supervision_enabled(False)
        predictor.manual_initialization(
            trainer.network, trainer.plans_manager, trainer.configuration_manager, None, self.dataset_json,
            type(trainer).__name__, (0, 1, 2),
        )  # fmt: skip
        return torch.no_grad()(predictor.predict_sliding_window_return_logits)

    def ct_only_scan(self) -> Tensor:
        """Return a preprocessed case that has only a CT, cut to two windows of the predictor at most."""
        trainer = self.trainer
        first, *others = trainer.configuration_manager.patch_size
        dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder)
        layout = layout_from_dataset_json(self.dataset_json)
        for identifier in dataset.identifiers:
            data = dataset.load_case(identifier)[0]
            if branches_of_case(data, layout) == ("CT",):
                scan = torch.from_numpy(data[:]).float()
                return scan[(slice(None), slice(first * 3 // 2), *(slice(edge) for edge in others))]
        raise LookupError("no case has only a CT")


def _side_by_side(x: Tensor) -> Tensor:
    """Put the second half of a batch behind the first half, in the channel axis."""
    return torch.cat(x.chunk(2), dim=1)


def summarize(ours: list[float], stock: list[float]) -> dict[str, float]:
    """Return the median ratio of pairs of measurements and its range, and the medians themselves."""
    ratios = [a / b for a, b in zip(ours, stock, strict=True)]
    return {
        "ratio": median(ratios), "lowest": min(ratios), "highest": max(ratios), "ours": median(ours),
        "stock": median(stock),
    }  # fmt: skip


def measure_times(place: Workplace, size: Size, batch_size: int, pairs: int) -> dict[str, dict[str, float]]:
    """Return the times of training steps and of predictions, in seconds."""
    ours, stock = (UnpairedContestant(place, size, batch_size, is_ours) for is_ours in (True, False))
    network = ours.trainer.module
    result = {}
    for name, dropout in (("training step", 0.0), ("training step, branch dropout", network.branch_dropout)):
        network.branch_dropout = dropout
        steps = [(ours.train(), stock.train()) for _ in range(WARM_UP + pairs)][WARM_UP:]
        spread = ours.update_per_step()
        result[name] = summarize([a + spread for a, _ in steps], [b for _, b in steps])
        result[name]["agents"] = spread
    scan = ours.ct_only_scan()
    predict_ours, predict_stock = ours.predictor(), stock.predictor()
    seconds = []
    for _ in range(1 + max(3, pairs // 3)):
        start = ours.now()
        predict_ours(scan)
        between = ours.now()
        predict_stock(scan)
        seconds.append((between - start, ours.now() - between))
    result["CT-only prediction"] = summarize(*zip(*seconds[1:], strict=True))
    return result


def measure_memory(place: Workplace, size: Size, batch_size: int, ours: bool) -> int:
    """Return the bytes that training with all links takes at its peak; for a process that does nothing else."""
    contestant = UnpairedContestant(place, size, batch_size, ours)
    if ours:
        contestant.trainer.module.branch_dropout = 0.0
    return contestant.peak_memory()


def memory_of(arguments: argparse.Namespace, root: Path, size: Size, ours: bool) -> int:
    """Measure memory in a new process."""
    return memory_in_new_process(
        __file__, "-o", root, "-device", arguments.device, "--batch_size", arguments.batch_size, "--base_features",
        size.base_features, "--patch", size.patch, "--blocks", size.blocks, "--memory_of", "ours" if ours else "stock",
    )  # fmt: skip


def run(arguments: argparse.Namespace, root: Path) -> None:
    """Measure all sizes and print the results."""
    device = torch.device(arguments.device)
    place = Workplace(root, arguments.device)
    os.environ.update(place.variables)
    sizes = [Size(*size) for size in zip(arguments.base_features, arguments.patch, arguments.blocks, strict=True)]
    if arguments.memory_of:
        print(measure_memory(place, sizes[0], arguments.batch_size, arguments.memory_of == "ours"))
        return
    if not place.path("nnUNet_preprocessed", DATASET, f"{PLANS}.json").is_file():
        prepare(place, max(arguments.patch))
    rows = []
    for size in sizes:
        for compiled in (False, True) if device.type == "cuda" else (False,):
            os.environ["nnUNet_compile"] = str(compiled)
            measures = measure_times(place, size, arguments.batch_size, arguments.pairs)
            memory = [memory_of(arguments, root, size, ours) / 2**20 for ours in (True, False)]
            measures["training memory"] = summarize(*([m] for m in memory))
            rows += [{**asdict(size), "compiled": compiled, "measure": name, **measures[name]} for name in TARGETS]
            print_table(rows[-len(TARGETS) :], header=len(rows) == len(TARGETS))
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "batch_size": arguments.batch_size,
                "pairs": arguments.pairs,
                "rows": rows,
            }
        )
    )


def print_table(rows: list[dict[str, Any]], header: bool) -> None:
    """Print rows as Markdown."""
    if header:
        print("| features, patch, blocks | measure | ratio (lowest-highest) | target | ours | stock |")
        print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        unit = "MiB" if "memory" in row["measure"] else "s"
        spread = f" ({row['lowest']:.2f}-{row['highest']:.2f})" if unit == "s" else ""
        name = f"{row['base_features']}, {row['patch']}, {row['blocks']}{', compiled' if row['compiled'] else ''}"
        print(
            f"| {name} | {row['measure']} | {row['ratio']:.2f}{spread} | {TARGETS[row['measure']]:.2f} "
            f"| {row['ours']:.4g} {unit} | {row['stock']:.4g} {unit} |",
            flush=True,
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    parser.add_argument("-o", "--output", type=Path, help="folder for the data set; kept (default: a temporary one)")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of steps; a third of it of scans (default: 15)")
    parser.add_argument("--batch_size", type=int, default=2, help="of ours; stock has twice as many (default: 2)")
    parser.add_argument("--base_features", type=int, nargs="+", default=[8, 16], help="one per size (default: 8 16)")
    parser.add_argument("--patch", type=int, nargs="+", default=[48, 64], help="one per size (default: 48 64)")
    parser.add_argument(
        "--blocks", nargs="+", choices=tuple(BLOCKS), default=["small", "resenc"],
        help="blocks per stage, one per size (default: small resenc)",
    )  # fmt: skip
    parser.add_argument("--memory_of", choices=("ours", "stock"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.output:
        run(arguments, arguments.output.resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        run(arguments, Path(folder))


if __name__ == "__main__":
    main()
