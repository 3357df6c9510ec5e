"""Eq. 17-20 over branches against the formula written out."""

import math

import pytest
import torch
from torch.nn import functional

from rl_nnunet.losses.adaptive_weights import AdaptiveWeights, AdaptiveWeightsConfig, adaptive_weights
from rl_nnunet.losses.alignment import cosine_embedding, info_nce
from rl_nnunet.losses.branched_loss import AlignmentLossConfig, BranchedLoss
from rl_nnunet.outputs import Alignment, BranchOutput
from rl_nnunet.targets import BranchTargets

CONFIG = AdaptiveWeightsConfig(momentum=0.0)


def dice(logits, target):
    """A negative soft Dice of the foreground."""
    if isinstance(logits, list):
        return sum(dice(x, y) for x, y in zip(logits, target, strict=True)) / len(logits)
    p, t = logits.softmax(1)[:, 1], target[:, 0].float()
    return -2 * (p * t).sum() / (p.sum() + t.sum())


def cross_entropy(logits, target):
    if isinstance(logits, list):
        return sum(cross_entropy(x, y) for x, y in zip(logits, target, strict=True)) / len(logits)
    return functional.cross_entropy(logits, target[:, 0].long())


def loss(are_joined=True, agwd=True, alignment=AlignmentLossConfig(0.1, 2.0, 3.0), branches=2):  # noqa: B008
    weights = [AdaptiveWeights(branches, CONFIG) if agwd else None for _ in range(2)]
    return BranchedLoss(dice, cross_entropy, BranchTargets(branches, are_joined), *weights, alignment)


def output(samples, stages=2, scales=None):
    """Random logits of each branch for its samples, random maps of each stage."""
    torch.manual_seed(0)

    def logits(count):
        made = [torch.randn(count, 2, size, size, requires_grad=True) for size in (scales or (4,))]
        return made if scales else made[0]

    directions = [(0, 1), (1, 0), (0, 1), (1, 0)] if stages else []
    maps = [Alignment(*torch.randn(2, 4, 3, 4, 4), {}, *torch.zeros(3, 4, 1)) for _ in range(stages)]
    branch_logits = [logits(len(indices)) if indices else None for indices in samples]
    return BranchOutput(branch_logits, samples, maps, [0, 0, 1, 1] if stages else [], directions)


def expected_alignment(out, config, links=(0, 1, 2, 3)):
    """Eq. 17 of each direction alone, weighed by its links, averaged over stages."""
    losses = []
    for a in out.alignments:
        for direction in set(out.link_branches):
            own = [i for i in links if out.link_branches[i] == direction]
            if own:
                maps = a.main[own], a.aligned[own]
                value = config.info_nce * info_nce(*maps) + config.cosine * cosine_embedding(*maps)
                losses.append(value * len(own) / len(links))
    return sum(losses) / len(out.alignments)


def weigh(losses):
    return adaptive_weights(torch.stack(losses).double(), CONFIG.temperature, CONFIG.offset).float()


def test_total_is_the_formula():
    module, out = loss(), output([[0, 1], [0, 1]])
    target = torch.randint(0, 2, (2, 2, 4, 4))
    dices = [dice(out.logits[b], target[:, b : b + 1]) for b in range(2)]
    entropies = [cross_entropy(out.logits[b], target[:, b : b + 1]) for b in range(2)]
    alignment = expected_alignment(out, module.alignment)
    total = module(out, target)
    expected = sum(w * d for w, d in zip(weigh(dices), dices, strict=True))
    expected = expected + sum(w * e for w, e in zip(weigh(entropies), entropies, strict=True))
    expected = expected / 2 + 0.1 * alignment
    torch.testing.assert_close(total, expected)

    report = module.report
    assert report.output is out
    assert report.dice == pytest.approx({b: -dices[b].item() for b in range(2)})
    assert report.segmentation == pytest.approx({b: 1 + (dices[b] + entropies[b]).item() for b in range(2)})
    assert report.dice_weights == pytest.approx(weigh(dices).tolist())
    assert report.cross_entropy_weights == pytest.approx(weigh(entropies).tolist())
    assert report.alignment == pytest.approx(alignment.item())
    gradient = torch.autograd.grad(total, out.logits[0], retain_graph=True)[0]
    weighted = weigh(dices)[0] * dices[0] + weigh(entropies)[0] * entropies[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(weighted / 2, out.logits[0])[0])


@pytest.mark.parametrize(("matched", "links"), [([True, True], (0, 1, 2, 3)), ([False, True], (2, 3))])
def test_only_links_between_crops_of_the_same_anatomy_are_aligned(matched, links):
    module, out = loss(), output([[0, 1], [0, 1]])
    module.matched = matched
    module(out, torch.randint(0, 2, (2, 2, 4, 4)))
    assert module.report.matched_links == list(links)
    expected = expected_alignment(out, module.alignment, links)
    assert module.report.alignment == pytest.approx(expected.item(), rel=1e-5)


def test_without_a_matched_sample_there_is_no_alignment_loss():
    module, out = loss(), output([[0, 1], [0, 1]])
    module.matched = [False, False]
    for a in out.alignments:
        a.aligned.requires_grad_()
    module(out, torch.randint(0, 2, (2, 2, 4, 4))).backward()
    assert module.report.matched_links == []
    assert module.report.alignment == 0
    assert all(a.aligned.grad is None for a in out.alignments)


def test_branches_that_agree_cost_next_to_nothing():
    """In one softmax over both directions, the way back is a negative that equals the positive: ln 2 was left."""
    torch.manual_seed(0)
    module, out = loss(alignment=AlignmentLossConfig(1.0, 1.0, 0.0)), output([[0, 1], [0, 1]], stages=0)
    maps = torch.randn(2, 32, 4, 4, 4).repeat_interleave(2, dim=0)  # of sample 0 twice, of sample 1 twice
    step = Alignment(maps, maps.clone(), {}, *torch.zeros(3, 4, 1))
    out = out._replace(alignments=[step], link_samples=[0, 0, 1, 1], link_branches=[(0, 1), (1, 0)] * 2)
    module(out, torch.randint(0, 2, (2, 2, 4, 4)))
    assert module.report.alignment < 0.05
    assert info_nce(maps, maps) > math.log(2)


def test_paired_branches_and_their_mean_share_the_target():
    module, out = loss(are_joined=False, agwd=False, alignment=None), output([[0, 1], [0, 1]], stages=0)
    target = torch.randint(0, 2, (2, 1, 4, 4))
    judged = [*out.logits, sum(out.logits) / 2]
    expected = sum(dice(logits, target) + cross_entropy(logits, target) for logits in judged)
    torch.testing.assert_close(module(out, target), expected / 3)
    assert module.report.dice_weights == module.report.cross_entropy_weights == [1.0, 1.0]


@pytest.mark.parametrize("are_joined", [True, False])
def test_each_branch_is_judged_on_its_own_samples(are_joined):
    module, out = loss(are_joined, agwd=False, alignment=None), output([[1], [0, 2]], stages=0)
    target = torch.randint(0, 2, (3, 2 if are_joined else 1, 4, 4))
    expected = 0
    for branch, indices in enumerate(out.samples):
        own = target[indices, branch : branch + 1] if are_joined else target[indices]
        expected = expected + dice(out.logits[branch], own) + cross_entropy(out.logits[branch], own)
    if not are_joined:  # the mean of what each sample has
        mean = torch.stack([out.logits[1][0], out.logits[0][0], out.logits[1][1]])
        expected = expected + dice(mean, target) + cross_entropy(mean, target)
    torch.testing.assert_close(module(out, target), expected / (2 if are_joined else 3))


def test_a_branch_without_any_annotated_voxel():
    """nnU-Net's cross entropy is a plain 0 then."""
    module, out = loss(agwd=False, alignment=None), output([[0], [0]], stages=0)
    module.cross_entropy = lambda logits, target: 0 if (target == 2).all() else cross_entropy(logits, target)
    target = torch.randint(0, 2, (1, 2, 4, 4))
    target[:, 1] = 2
    expected = dice(out.logits[0], target[:, :1]) + cross_entropy(out.logits[0], target[:, :1])
    torch.testing.assert_close(module(out, target), (expected + dice(out.logits[1], target[:, 1:])) / 2)


def test_an_absent_branch_costs_nothing():
    module, out = loss(), output([[0, 1], []], stages=0)
    target = torch.randint(0, 2, (2, 2, 4, 4))
    torch.testing.assert_close(
        module(out, target), dice(out.logits[0], target[:, :1]) + cross_entropy(out.logits[0], target[:, :1])
    )
    assert set(module.report.dice) == set(module.report.segmentation) == {0}
    assert module.report.dice_weights == [1.0, 1.0]
    assert module.report.alignment == 0


def test_deep_supervision_keeps_its_structure():
    module, out = loss(agwd=False, alignment=None), output([[0, 1], [1]], stages=0, scales=(8, 4))
    target = [torch.randint(0, 2, (2, 2, size, size)) for size in (8, 4)]
    own = [[t[:, :1] for t in target], [t[1:, 1:] for t in target]]
    expected = sum(dice(x, y) + cross_entropy(x, y) for x, y in zip(out.logits, own, strict=True))
    torch.testing.assert_close(module(out, target), expected / 2)


def test_deep_supervision_of_the_mean_of_paired_branches():
    module, out = loss(False, False, None), output([[0, 1], [1]], stages=0, scales=(8, 4))
    target = [torch.randint(0, 2, (2, 1, size, size)) for size in (8, 4)]
    mean = [torch.stack([first[0], (first[1] + second[0]) / 2]) for first, second in zip(*out.logits, strict=True)]
    judged = [(out.logits[0], target), (out.logits[1], [t[1:] for t in target]), (mean, target)]
    expected = sum(dice(x, y) + cross_entropy(x, y) for x, y in judged)
    torch.testing.assert_close(module(out, target), expected / 3)


def test_links_that_no_stage_aligns_cost_nothing():
    """As without RL-XAlign: its branches have links, and no module."""
    module, out = loss(agwd=False), output([[0, 1], [0, 1]])._replace(alignments=[])
    assert out.link_samples
    target = torch.randint(0, 2, (2, 2, 4, 4))
    torch.testing.assert_close(module(out, target), loss(agwd=False, alignment=None)(out, target))
    assert module.report.alignment == 0


def test_without_alignment_losses():
    out = output([[0, 1], [0, 1]])
    target = torch.randint(0, 2, (2, 2, 4, 4))
    with_them, without_them = loss(agwd=False), loss(agwd=False, alignment=None)
    difference = with_them(out, target) - without_them(out, target)
    torch.testing.assert_close(difference, 0.1 * expected_alignment(out, with_them.alignment))
    assert without_them.report.alignment == 0


def test_a_plain_segmentation_gets_nnunets_loss():
    module = loss()
    logits, target = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 1, 4, 4))
    torch.testing.assert_close(module(logits, target), dice(logits, target) + cross_entropy(logits, target))
    torch.testing.assert_close(module([logits], [target]), module(logits, target))
    assert module.report is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_without_links_on_a_gpu():
    out = output([[0, 1], [0, 1]], stages=0)
    out = out._replace(logits=[logits.cuda() for logits in out.logits])
    for alignment in (AlignmentLossConfig(), None):
        assert loss(alignment=alignment)(out, torch.zeros(2, 2, 4, 4).cuda()).isfinite()
