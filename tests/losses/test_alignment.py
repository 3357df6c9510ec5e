"""Eq. 17 of RL-U2Net against loops over positions and torch's cosine embedding loss."""

import math

import pytest
import torch
from torch.nn import functional

from rl_nnunet.losses.alignment import cosine_embedding, feature_cosine, info_nce


def positions(x: torch.Tensor) -> list[torch.Tensor]:
    """Feature vectors of every position of every sample."""
    return [x[(b, slice(None), *p)] for b in range(len(x)) for p in torch.ones(x.shape[2:]).nonzero().tolist()]


def info_nce_by_loops(main: torch.Tensor, aligned: torch.Tensor, temperature: float) -> float:
    """-log softmax of the positive among all positions of all samples, averaged; no pooling."""
    losses = []
    for i, m in enumerate(positions(main)):
        similarities = [(torch.dot(m, a) / (m.norm() * a.norm()) / temperature).item() for a in positions(aligned)]
        losses.append(-math.log(math.exp(similarities[i]) / sum(map(math.exp, similarities))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("spatial", [(4,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_info_nce_is_the_log_softmax_over_all_positions(spatial, temperature):
    torch.manual_seed(0)
    main, aligned = torch.randn(2, 5, *spatial), torch.randn(2, 5, *spatial)
    expected = info_nce_by_loops(main, aligned, temperature)
    assert info_nce(main, aligned, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_pools_to_the_grid():
    """Axes longer than the grid are averaged in blocks, shorter ones are left alone."""
    torch.manual_seed(0)
    main, aligned = torch.randn(2, 5, 8, 2, 12), torch.randn(2, 5, 8, 2, 12)
    pooled = [x.reshape(2, 5, 4, 2, 2, 4, 3).mean((3, 6)) for x in (main, aligned)]
    torch.testing.assert_close(info_nce(main, aligned), info_nce(*pooled))
    assert info_nce(main, aligned, 1.0, grid=2).item() == pytest.approx(
        info_nce_by_loops(*(x.reshape(2, 5, 2, 4, 2, 2, 6).mean((3, 6)) for x in (main, aligned)), 1.0)
    )


def test_info_nce_tells_aligned_from_misaligned_maps():
    torch.manual_seed(0)
    main = torch.randn(1, 16, 4, 4, 4)
    assert info_nce(main, main) < 0.1 < info_nce(main, main.flip(2))
    flat = torch.ones(2, 16, 4, 4, 4)
    assert info_nce(flat, flat).item() == pytest.approx(math.log(2 * 4**3))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_info_nce_at_its_best_is_the_stated_bound(temperature):
    """Eight positions whose vectors form a simplex, equal in both maps, reach it; random equal maps do not."""
    count = 8
    simplex = torch.eye(count) - 1 / count
    maps = simplex.T.reshape(1, count, 2, 2, 2)
    best = math.log(1 + (count - 1) * math.exp(-count / ((count - 1) * temperature)))
    assert info_nce(maps, maps, temperature).item() == pytest.approx(best, rel=1e-2)
    torch.manual_seed(0)
    for _ in range(20):
        maps = torch.randn(1, 16, 2, 2, 2)
        assert info_nce(maps, maps, temperature) > best


def test_gradient_reaches_both_maps():
    for loss in (info_nce, cosine_embedding):
        main, aligned = (torch.randn(2, 4, 3, 3, requires_grad=True) for _ in range(2))
        loss(main, aligned).backward()
        assert main.grad.abs().sum() > 0
        assert aligned.grad.abs().sum() > 0


def test_minimizing_info_nce_aligns():
    torch.manual_seed(0)
    main, aligned = torch.randn(1, 8, 3, 3), torch.randn(1, 8, 3, 3, requires_grad=True)
    optimizer = torch.optim.Adam([aligned], lr=0.1)
    before = cosine_embedding(main, aligned).item()
    for _ in range(50):
        optimizer.zero_grad()
        info_nce(main, aligned).backward()
        optimizer.step()
    assert cosine_embedding(main, aligned).item() < before / 2


def test_float32_under_autocast():
    torch.manual_seed(0)
    main, aligned = torch.randn(2, 8, 4, 4).bfloat16(), torch.randn(2, 8, 4, 4).bfloat16()
    for loss in (info_nce, cosine_embedding):
        expected = loss(main.float(), aligned.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = loss(main, aligned)
        assert result.dtype == torch.float32
        assert torch.equal(result, expected)


@pytest.mark.parametrize("spatial", [(4, 5), (2, 3, 4)])
def test_cosine_embedding_is_that_of_torch(spatial):
    main, aligned = torch.randn(2, 6, *spatial), torch.randn(2, 6, *spatial)
    rows = [x.flatten(2).transpose(1, 2).reshape(-1, 6) for x in (main, aligned)]
    expected = functional.cosine_embedding_loss(*rows, torch.ones(len(rows[0])))
    torch.testing.assert_close(cosine_embedding(main, aligned), expected)


def test_cosine_embedding_range():
    x = torch.randn(2, 4, 3, 3)
    assert cosine_embedding(x, 2 * x).item() == pytest.approx(0, abs=1e-6)
    assert cosine_embedding(x, -x).item() == pytest.approx(2)


def test_bad_arguments_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    for loss in (info_nce, cosine_embedding):
        with pytest.raises(ValueError, match="one shape"):
            loss(x, x[:1])
    with pytest.raises(ValueError, match="spatial axes"):
        info_nce(x[..., None, None], x[..., None, None])
    for temperature, grid in ((0.0, 4), (-1.0, 4), (0.1, 0)):
        with pytest.raises(ValueError, match="temperature"):
            info_nce(x, x, temperature, grid)


def test_feature_cosine_is_the_mean_over_positions():
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 3, 4), torch.randn(2, 6, 3, 4)
    for i in range(2):
        cosines = [
            torch.dot(a[i, :, y, x], b[i, :, y, x]) / (a[i, :, y, x].norm() * b[i, :, y, x].norm())
            for y in range(3)
            for x in range(4)
        ]
        torch.testing.assert_close(feature_cosine(a, b)[i], torch.stack(cosines).mean())


def test_feature_cosine_range_and_zero_maps():
    a = torch.randn(2, 4, 3, 3, 3)
    torch.testing.assert_close(feature_cosine(a, 3 * a), torch.ones(2))
    torch.testing.assert_close(feature_cosine(a, -a), -torch.ones(2))
    assert feature_cosine(a, torch.zeros_like(a)).tolist() == [0, 0]
    assert feature_cosine(a.half(), a.half()).dtype == torch.float32


def test_maps_of_unequal_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        feature_cosine(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5))
    with pytest.raises(ValueError, match="one shape"):
        feature_cosine(torch.zeros(2, 3), torch.zeros(2, 3))
