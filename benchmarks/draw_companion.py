"""Draw what a companion shows: held-out hearts of ``turned_scans.py`` whose MR is noisy, segmented alone and with a CT.

python benchmarks/draw_companion.py -o docs/companion.png --minutes 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from turned_scans import CLASSES, draw_batch, make_hearts, make_network, mean_dice, train

from rl_nnunet.training.random_state import seed_everything

POLICY = "carried"


def main() -> None:
    """Train, and draw a row per heart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10, help="training time (default: 10)")
    parser.add_argument("--noise", type=float, default=200, help="SD of the MR's noise (default: 200)")
    parser.add_argument("--hearts", type=int, default=2, help="rows (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    mpl.use("agg")
    from matplotlib import pyplot as plt

    seed_everything(arguments.seed)
    network = make_network(POLICY, 3)
    training = make_hearts(64, 0, arguments.noise)
    list(train(network, training, [arguments.minutes], arguments.seed))
    network.eval()
    network.decoder.deep_supervision = False
    generator = np.random.default_rng(arguments.seed)
    figure, axes = plt.subplots(
        arguments.hearts, 5, figsize=(10, 2.2 * arguments.hearts), layout="constrained", squeeze=False
    )
    for row, heart in zip(axes, make_hearts(arguments.hearts, 10_000, arguments.noise), strict=True):
        data, target, _ = draw_batch([heart], generator, 1)
        alone = data.clone()
        alone[:, 0] = 0
        with torch.no_grad():
            logits = {
                "MR alone": network.forward_branches(alone).logits[1],
                "MR with its CT": network.forward_branches(data).logits[1],
            }
        pictures = {"CT": data[0, 0], "MR, turned": data[0, 1], "reference of the MR": target[0, 1]}
        for title, one in logits.items():
            pictures[f"{title}: Dice {mean_dice(one, target[:, 1]):.2f}"] = one.argmax(1)[0]
        for axis, (title, volume) in zip(row, pictures.items(), strict=True):
            axis.axis("off")
            axis.set_title(title, fontsize="small")
            picture = volume[len(volume) // 2]
            if volume.is_floating_point():
                axis.imshow(picture, cmap="gray")
            else:
                shown = np.ma.masked_equal(picture, 0)
                axis.set_facecolor("black")
                axis.imshow(np.zeros_like(picture), cmap="gray")
                axis.imshow(shown, cmap="tab10", vmin=0, vmax=CLASSES + 2, interpolation="nearest")
    figure.savefig(arguments.output, dpi=80)


if __name__ == "__main__":
    main()
