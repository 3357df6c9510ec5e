"""A proof by a known answer: a square in noise decides the class, and the mask agent has to find it.

The square lies anywhere, not on the grid of the cells; its brightness is the class. Everything else is noise. A small
CNN learns the class first, then the policy learns from it alone, while both go on as in a training with masks.
"""

from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rl_nnunet.agents.agent import StepReport
from rl_nnunet.agents.mask import MaskAgent, PaperMaskAgent, ScriptMaskAgent
from rl_nnunet.agents.masks import MaskConfig
from rl_nnunet.policies.mask import MaskPolicy, cell_edges
from rl_nnunet.presence.erasing import erase

SIZE, SQUARE, BATCH = 32, 12, 32
BLANK = torch.zeros(1)
AGENTS = {"sampled": MaskAgent, "paper": PaperMaskAgent, "script": ScriptMaskAgent}


class Found(NamedTuple):
    """How much of the squares the masks cover, their mean intersection over union with them, and their area."""

    covered: float
    iou: float
    area: float


def squares(count, generator):
    """Return images (B, 1, 32, 32), their classes, and where their squares are."""
    where = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.bool)
    for mask in where:
        row, column = torch.randint(SIZE - SQUARE + 1, (2,), generator=generator).tolist()
        mask[0, row : row + SQUARE, column : column + SQUARE] = True
    classes = torch.randint(2, (count,), generator=generator)
    noise = 0.5 * torch.randn(count, 1, SIZE, SIZE, generator=generator)
    return noise + where * (2 * classes - 1).view(-1, 1, 1, 1), classes, where


def compare(masks, where):
    both, either = masks & where, masks | where
    iou = (both.flatten(1).sum(1) / either.flatten(1).sum(1)).mean()
    return Found(float(both.sum() / where.sum()), float(iou), float(masks.float().mean()))


class Task:
    """A CNN and its steps."""

    def __init__(self, generator):
        self.generator = generator
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.network.parameters(), 2e-3)
        for _ in range(300):
            images, classes, _ = squares(BATCH, generator)
            self.step(images, classes)

    def step(self, images, classes):
        self.optimizer.zero_grad()
        F.cross_entropy(self.network(images), classes).backward()
        self.optimizer.step()

    def losses(self, batch):
        return F.cross_entropy(self.network(batch["data"]), batch["target"], reduction="none")[:, None]


def search(source, seed, steps, **settings):
    """Train with masks; return what the most probable masks of 256 new images find."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    task, config = Task(generator), MaskConfig(source=source, **settings)
    policy = MaskPolicy(1, (SIZE, SIZE), cell_edges((SIZE, SIZE), (1.0, 1.0), config.cells))
    agent = AGENTS[source](policy, task.losses, [[0]], BLANK, config)
    agent.is_on = True
    for _ in range(steps):
        images, classes, _ = squares(BATCH, generator)
        task.step(images, classes)
        batch = {"data": images, "target": classes}
        agent.learn(StepReport(batch, 0.0, 0.5))
        kept = agent.keep(batch)
        used = kept.flatten(1).float().mean(1) >= config.smallest_kept
        if used.any():
            task.step(erase(images, ~kept, [[0]], BLANK)[used], classes[used])
    images, _, where = squares(256, torch.Generator().manual_seed(1000 + seed))
    with torch.no_grad():
        return compare(policy.to_voxels(policy(images) > 0)[:, None], where)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_drawn_cells_find_the_square_and_chance_does_not(seed):
    found = search("sampled", seed, steps=150)
    assert found.covered >= 0.9
    assert found.iou >= 0.5
    _, _, where = squares(256, torch.Generator().manual_seed(1000 + seed))
    cells = torch.rand(256, 8, 8, generator=torch.Generator().manual_seed(seed)) < found.area
    chance = compare(cells.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None], where)
    assert chance.area == pytest.approx(found.area, abs=0.02)
    assert chance.covered < 0.5
    assert chance.iou < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("source", ["paper", "script"])
def test_the_papers_form_for_comparison(source):
    """Where it finds the square, what is documented of it is wrong. Run with ``-s``, this prints what it finds."""
    found = search(source, 0, steps=60, cells=None)
    print(f"{source}: {found}")
    assert found.covered < 0.9 or found.iou < 0.5
