"""Losses on two ranks with batches of unequal size: loss and gradients are those of one process with all samples."""

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from ranks import on_two_ranks
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rl_nnunet.distributed import use_every_parameter
from rl_nnunet.losses.branched_loss import BranchedLoss
from rl_nnunet.losses.iterated_loss import IteratedLoss
from rl_nnunet.losses.joint_loss import JointDice, JointLoss, fold, no_samples
from rl_nnunet.outputs import BranchOutput, IntraInterOutput, IterationOutput
from rl_nnunet.targets import BranchTargets
from rl_nnunet.training.loss_terms import joint_dice, joint_loss, of_one_rank, terms_of, without_term

BRANCHES_OF_SAMPLES = ((0, 1), (0,), (1,), (0,))
"""The first one, two or three samples are on rank 0, the others on rank 1."""
CLASSES = 3


def nnunet_loss(kind, batch_dice, ddp):
    """nnU-Net's loss as its trainer builds it, with deep supervision."""
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "ddp": ddp}
    if kind == "regions":
        loss = DC_and_BCE_loss({}, {**dice, "do_bg": True}, dice_class=MemoryEfficientSoftDiceLoss)
    else:
        loss = DC_and_CE_loss({**dice, "do_bg": False}, {}, dice_class=MemoryEfficientSoftDiceLoss)
    return DeepSupervisionWrapper(loss, (0.75, 0.25))


class Network(nn.Module):
    """A convolution per branch, as deep a supervision as nnU-Net's, and the outputs of either network of ours."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.branches = nn.ModuleList(nn.Conv3d(1, CLASSES, 3, padding=1) for _ in range(2))

    def forward(self, x, present):
        samples = [[row for row, branches in enumerate(present) if branch in branches] for branch in range(2)]
        logits = [
            scales(convolution(x[rows, branch : branch + 1])) if rows else None
            for branch, (convolution, rows) in enumerate(zip(self.branches, samples, strict=True))
        ]
        return BranchOutput(logits, samples, [], [], [])


def scales(x):
    return [x, nn.functional.avg_pool3d(x, 2)]


def iterated(output):
    """What the other network returns, given the outputs of two modalities."""
    fused = output.mean_logits()
    own = [None if logits is None else logits[0] for logits in output.logits]
    return IntraInterOutput([IterationOutput(fused, own, fused[0])], [0], output.samples, {}, None)


def data(kind):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 2, 4, 4, 4, generator=generator)
    if kind == "regions":
        target = torch.randint(0, 2, (4, CLASSES, 4, 4, 4), generator=generator)
    else:
        target = torch.randint(0, CLASSES, (4, 1, 4, 4, 4), generator=generator)
    return x, [target, target[..., ::2, ::2, ::2]]


def build(which, kind, batch_dice, ddp):
    def stock():
        return nnunet_loss(kind, batch_dice, ddp)

    if which == "iterated":
        if not ddp:
            return IteratedLoss(stock(), terms_of(stock()), 4.0)
        return IteratedLoss(joint_loss(stock, batch_dice), joint_loss(stock, batch_dice, terms_of), 4.0)
    return BranchedLoss(
        without_term(of_one_rank(stock()), "weight_ce"),
        without_term(of_one_rank(stock()), "weight_dice"),
        BranchTargets(2, are_joined=False),
        None,
        None,
        None,
        joint_dice(stock()) if ddp and batch_dice else None,
    )


def loss_of(which, loss, output, target):
    return loss(iterated(output) if which == "iterated" else output, target)


def on_a_rank(which, kind, batch_dice, first_of_rank_1):
    """Return this rank's loss and the gradients that DDP leaves; the samples are divided at a row."""
    rows = slice(0, first_of_rank_1) if distributed.get_rank() == 0 else slice(first_of_rank_1, 4)
    network = DistributedDataParallel(Network())
    loss = build(which, kind, batch_dice, True)
    use_every_parameter(loss, network.module)
    x, target = data(kind)
    for _ in range(2):  # DDP complains in the second step of what is missing in the first one
        network.zero_grad()
        output = network(x[rows], BRANCHES_OF_SAMPLES[rows])
        value = loss_of(which, loss, output, [scale[rows] for scale in target])
        value.backward()
    return float(value.detach()), [parameter.grad for parameter in network.module.parameters()]


CASES = [
    (which, kind, batch_dice, first_of_rank_1)
    for which in ("branched", "iterated")
    for kind in ("classes", "regions")
    for batch_dice in (True, False)
    for first_of_rank_1 in (1, 2, 3)
]


def all_cases():
    return [on_a_rank(*case) for case in CASES]


@pytest.mark.slow
def test_two_ranks_have_the_loss_and_the_gradients_of_one_process(tmp_path):
    """Also where a rank lacks a branch, or has more samples than the other."""
    for case, *of_ranks in zip(CASES, *on_two_ranks(all_cases, tmp_path), strict=True):
        which, kind, batch_dice, _ = case
        network, loss = Network(), build(which, kind, batch_dice, False)
        x, target = data(kind)
        value = loss_of(which, loss, network(x, BRANCHES_OF_SAMPLES), target)
        value.backward()
        mean = sum(rank_value for rank_value, _ in of_ranks) / 2
        assert mean == pytest.approx(float(value.detach()), rel=1e-5), case
        for index, parameter in enumerate(network.parameters()):
            for _, gradients in of_ranks:
                torch.testing.assert_close(gradients[index], parameter.grad, rtol=1e-4, atol=1e-6, msg=str(case))


def test_folded_samples_have_the_same_batch_dice():
    loss = MemoryEfficientSoftDiceLoss(lambda x: torch.softmax(x, 1), batch_dice=True, do_bg=False, ddp=False)
    logits, target = torch.randn(3, CLASSES, 4, 4, 4), torch.randint(0, CLASSES, (3, 1, 4, 4, 4))
    assert fold(logits).shape == (1, CLASSES, 12, 4, 4)
    torch.testing.assert_close(JointDice(loss)(logits, target), loss(logits, target))


def test_no_samples_have_the_structure_of_others():
    logits = no_samples([torch.ones(2, 3, 4, 4), torch.ones(2, 3, 2, 2)])
    assert [tuple(scale.shape) for scale in logits] == [(0, 3, 4, 4), (0, 3, 2, 2)]
    assert all(scale.requires_grad for scale in logits)


def test_in_evaluation_a_rank_is_judged_alone():
    loss = JointLoss(lambda *_: "alone", lambda *_: torch.tensor(2.0), lambda *_: torch.tensor(3.0))
    assert float(loss(torch.ones(2, 1), torch.ones(2))) == 5
    assert loss.eval()(torch.ones(2, 1), torch.ones(2)) == "alone"
