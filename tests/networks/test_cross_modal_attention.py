"""Eq. 1-5 of RL-U2Net against loops over windows and heads."""

import math
from itertools import product

import pytest
import torch

from rl_nnunet.networks.cross_modal_attention import (
    LOCALITY,
    CrossModalAttention,
    merge_windows,
    pad_to_windows,
    partition_windows,
)

# Sizes that the window divides, sizes that it does not, windows longer along one axis, and one larger than the map.
SHAPES = [
    ((4, 6), (2, 3)),
    ((5, 7), (2, 3)),
    ((3, 4), (4, 4)),
    ((4, 4, 6), (2, 2, 3)),
    ((3, 5, 4), (2, 2, 2)),
    ((3, 6, 5), (1, 4, 4)),
]


def position_scores(module: CrossModalAttention, head: int, shape: tuple[int, ...]) -> torch.Tensor:
    """The bias of each pair of voxels of a window, looked up by its offset, one by one."""
    places = list(product(*map(range, shape)))
    scores = torch.zeros(len(places), len(places), dtype=torch.float64)
    if module.position_bias is not None:
        # Offsets in the order of their table: from the most negative along the first axis on.
        table = list(product(*(range(1 - w, w) for w in module.window)))
        for (i, query), (j, key) in product(enumerate(places), enumerate(places)):
            offset = tuple(k - q for q, k in zip(query, key, strict=True))
            scores[i, j] = module.position_bias[head, table.index(offset)]
    return scores


def attention_by_loops(module: CrossModalAttention, main: torch.Tensor, auxiliary: torch.Tensor) -> torch.Tensor:
    """For each sample, window and head: softmax(Q K^T / sqrt(d)) V over the window's real voxels only."""
    channels, spatial = main.shape[1], main.shape[2:]
    result = torch.empty_like(main)
    width = channels // module.num_heads
    key_weight, value_weight = module.key_value.weight.chunk(2)
    key_bias, value_bias = module.key_value.bias.chunk(2)
    starts = product(*(range(0, size, w) for size, w in zip(spatial, module.window, strict=True)))
    for sample, start in product(range(len(main)), list(starts)):
        where = (sample, slice(None), *(slice(s, s + w) for s, w in zip(start, module.window, strict=True)))
        shape = main[where].shape
        m, a = main[where].flatten(1).T, auxiliary[where].flatten(1).T
        query = m @ module.query.weight.T + module.query.bias
        key, value = a @ key_weight.T + key_bias, a @ value_weight.T + value_bias
        heads = []
        for head in range(module.num_heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[:, part] @ key[:, part].T / math.sqrt(width) + position_scores(module, head, shape[1:])
            heads.append(torch.softmax(scores, dim=1) @ value[:, part])
        answer = torch.cat(heads, dim=1) @ module.output.weight.T + module.output.bias
        result[where] = answer.T.reshape(shape)
    return result


@pytest.mark.parametrize(("spatial", "window"), [((4, 6), (2, 3)), ((4, 4, 6), (2, 1, 3)), ((2, 2, 2), (2, 2, 2))])
def test_merge_inverts_partition(spatial, window):
    x = torch.arange(2 * 3 * math.prod(spatial)).view(2, 3, *spatial)
    tokens = partition_windows(x, window)
    assert tokens.shape == (2 * math.prod(spatial) // math.prod(window), math.prod(window), 3)
    assert torch.equal(merge_windows(tokens, window, spatial), x)


def test_first_token_block_is_the_first_window():
    x = torch.randn(1, 3, 4, 6)
    assert torch.equal(partition_windows(x, (2, 3))[0], x[0, :, :2, :3].flatten(1).T)
    assert torch.equal(partition_windows(x, (2, 3))[1], x[0, :, :2, 3:].flatten(1).T)


def test_padding_is_zero_and_at_the_end():
    x = torch.ones(1, 1, 3, 4)
    padded = pad_to_windows(x, (2, 3))
    assert padded.shape == (1, 1, 4, 6)
    assert torch.equal(padded[..., :3, :4], x)
    assert padded.sum() == x.sum()
    assert pad_to_windows(x, (3, 2)) is x


@pytest.mark.parametrize(("spatial", "window"), SHAPES)
@pytest.mark.parametrize(("channels", "head_channels"), [(6, 6), (6, 2), (6, 4)])
@pytest.mark.parametrize("position_bias", [False, True])
def test_attention_is_the_softmax_per_window_and_head(spatial, window, channels, head_channels, position_bias):
    torch.manual_seed(0)
    module = CrossModalAttention(channels, window, head_channels, position_bias=position_bias).double()
    if position_bias:
        torch.nn.init.normal_(module.position_bias)
    main, auxiliary = torch.randn(2, 2, channels, *spatial, dtype=torch.float64)
    torch.testing.assert_close(module(main, auxiliary), attention_by_loops(module, main, auxiliary))


@pytest.mark.parametrize(
    ("channels", "head_channels", "heads"), [(64, 32, 2), (32, 32, 1), (8, 32, 1), (48, 32, 3), (7, 32, 7)]
)
def test_heads_divide_the_channels(channels, head_channels, heads):
    assert CrossModalAttention(channels, (2, 2), head_channels).num_heads == heads


def test_each_window_answers_for_itself():
    torch.manual_seed(0)
    module = CrossModalAttention(4, (2, 2, 2))
    main, auxiliary = torch.randn(2, 1, 4, 4, 4, 4)
    before = module(main, auxiliary)
    auxiliary[..., 2:] = torch.randn(1, 4, 4, 4, 2)
    after = module(main, auxiliary)
    assert torch.equal(before[..., :2], after[..., :2])
    assert not torch.allclose(before[..., 2:], after[..., 2:])


def test_the_printed_attention_does_not_know_where_an_answer_comes_from():
    """Its answer is the same when the voxels of an auxiliary window are shuffled; with the position bias it is not."""
    torch.manual_seed(0)
    main, auxiliary = torch.randn(2, 1, 4, 2, 2, 2)
    shuffled = auxiliary.flatten(2)[..., torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])].view_as(auxiliary)
    printed = CrossModalAttention(4, (2, 2, 2), position_bias=False)
    torch.testing.assert_close(printed(main, shuffled), printed(main, auxiliary))
    knowing = CrossModalAttention(4, (2, 2, 2))
    assert (knowing(main, shuffled) - knowing(main, auxiliary)).abs().max() > 0.1


@pytest.mark.parametrize("window", [(4, 4), (4, 4, 4), (1, 4, 4)])
def test_half_of_the_attention_is_on_the_same_place_at_the_start(window):
    """With scores of zero, values that are passed on, and an auxiliary map that is 1 at a single place."""
    module = CrossModalAttention(1, window)
    torch.nn.init.zeros_(module.query.weight)
    torch.nn.init.zeros_(module.query.bias)
    torch.nn.init.ones_(module.key_value.weight)
    torch.nn.init.zeros_(module.key_value.bias)
    torch.nn.init.ones_(module.output.weight)
    torch.nn.init.zeros_(module.output.bias)
    auxiliary = torch.zeros(1, 1, *window)
    place = (0, 0, *(size // 2 for size in window))
    auxiliary[place] = 1
    answer = module(torch.randn_like(auxiliary), auxiliary)
    share = 1 / sum(math.exp(-LOCALITY * d * d) for d in (-2, -1, 0, 1)) ** sum(size > 1 for size in window)
    assert answer[place].item() == pytest.approx(share, rel=1e-4)
    assert 0.4 < share < 0.7
    assert answer.argmax() == auxiliary.argmax()


@pytest.mark.parametrize(("position_bias", "error"), [(True, (0, 0.1)), (False, (0.7, 1.1))])
def test_what_the_auxiliary_branch_shows_somewhere_gets_there(position_bias, error):
    """Attention that learns to hand on the auxiliary map, where the main one (noise) tells nothing of it.

    The error is a share of the map's variance; a constant answer has 1, the mean of a window of 16 voxels 15/16.
    """
    torch.manual_seed(0)
    module = CrossModalAttention(4, (4, 4), position_bias=position_bias)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(120):
        main, auxiliary = torch.randn(2, 4, 4, 8, 8)
        loss = (module(main, auxiliary) - auxiliary).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error[0] <= loss.item() <= error[1]
