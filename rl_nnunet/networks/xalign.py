"""RL-XAlign at one encoder stage: cross-modal attention, pose alignment and fusion; RL-U2Net, equations 1-7.

The module works on *links*: a link is one sample's main branch looking at one of its auxiliary branches. With two
branches that are both present, each sample has two links; every branch is main once and auxiliary once. One set of
weights serves all directions, because the encoder is shared and its features live in one space; what is specific to a
direction is the policy.

Where the aligned maps go, the paper leaves open: its text makes ``F^i`` of ``F^(i-1)`` "for subsequent segmentation
tasks" (the encoder goes on with them), its overview calls RL-XAlign "inserted between encoders" and hands the aligned
features to the decoders (the skips). `XAlignConfig.feeds` offers both.

A scan without a companion is its own, unturned: it takes the way through attention and fusion of a scan that has one.
The paper, whose pairs are complete, says nothing of it. Left out of both, as it was before, it handed the decoder maps
of another make, for which only the few samples had trained it whose branches do not see each other.

The order is the paper's: the attention's output carries auxiliary content at auxiliary positions (queries and keys
share a window), then the pose policy turns it. The aligned map is the mean over the drawn rotations. With several
auxiliary branches it is also the mean over them (the paper has two branches).

Fusion (eq. 7): ``fused = g * aligned + (1 - g) * main``. In the paper g is a preset lambda (`fusion="fixed"`); by
default it is learnt per channel and starts near zero (`fusion="gated"`), so that alignment cannot cost at the start.
Res-Fusion is not specified in the paper beyond its name; ours is ``fused + block([main, aligned])`` with a residual
block whose last normalization starts at zero. The block gets the aligned map itself, not what the gate has left of it:
a gate that starts near zero hands on a twentieth, and it hardly moves (after 1,300 steps of AdamW, it was where it had
begun).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from rl_nnunet.errors import InputError
from rl_nnunet.networks.cross_modal_attention import CrossModalAttention
from rl_nnunet.outputs import Alignment, to_device
from rl_nnunet.policies.pose import PolicyKind, PosePolicy
from rl_nnunet.policies.rotations import rotate_to_grid, rotation_matrices, turning

FORM = 3
"""Counts what modules have made of their weights: those of one form are of no use to another. It is saved with them."""
FusionKind = Literal["gated", "fixed"]
Consumer = Literal["skips", "encoder"]


class Links(NamedTuple):
    """Which rows of a feature map look at which: L links of U main rows, and V rows alone, on the device of the map.

    Attributes
    ----------
    main, auxiliary : Tensor
        Rows of the feature map, (L,).
    branches : Tensor
        (L, 2): index of the main and of the auxiliary branch.
    fused_rows : Tensor
        The main rows, each once, (U,), in the order in which the links name them.
    position : Tensor
        Where the main row of each link stands in `fused_rows`, (L,).
    counts : Tensor
        Links of each main row, (U,).
    lone : Tensor
        The rows without a link, (V,).
    """

    main: Tensor
    auxiliary: Tensor
    branches: Tensor
    fused_rows: Tensor
    position: Tensor
    counts: Tensor
    lone: Tensor


def make_links(links: Sequence[tuple[int, int, int, int]], rows: int, device: torch.device) -> Links:
    """Return the links of some rows, given on the host, in one transfer.

    Parameters
    ----------
    links : sequence of (int, int, int, int)
        Main row, auxiliary row, main branch and auxiliary branch of each; there may be none.
    rows : int
        Rows of the feature map, at least one.
    device : torch.device
        Of the map.
    """
    main = [link[0] for link in links]
    fused_rows = list(dict.fromkeys(main))
    lone = [row for row in range(rows) if row not in fused_rows]
    positions = [fused_rows.index(row) for row in main]
    counts = [main.count(row) for row in fused_rows]
    flat = [number for link in links for number in link] + positions + fused_rows + counts + lone
    sizes = (4 * len(links), len(links), len(fused_rows), len(fused_rows), len(lone))
    table, position, fused, count, alone = to_device(flat, device).split(sizes)
    table = table.view(-1, 4)
    return Links(table[:, 0], table[:, 1], table[:, 2:], fused, position, count, alone)


@dataclass(frozen=True)
class XAlignConfig:
    """Architecture choices of the XAlign modules; every field is an entry of the plans.

    Parameters
    ----------
    selected_rotations : int
        K_sel, the number of rotations that are drawn without replacement and averaged. The paper states no value;
        we draw 1, because every further rotation averages a less probable pose into the aligned map.
    fusion : {"gated", "fixed"}
        Learnt gate per channel, or the paper's preset weight.
    fusion_weight : float
        The paper's lambda, below 0.5 (it states no value), for ``fusion="fixed"``.
    initial_gate : float
        Where the learnt gate starts, between 0 and 1.
    policy : {"contextual", "global"}
        See `rl_nnunet.policies.pose`.
    cross_modal_attention : bool
        False fuses the turned auxiliary map itself (the paper's ablation "w/o CMA").
    position_bias : bool
        Whether the attention knows positions, see `rl_nnunet.networks.cross_modal_attention`; the paper's does not.
    feeds : {"skips", "encoder"}
        Whether the fused maps go to the decoders alone, or also to the next stage of the encoder, see the module's
        text. "skips" keeps the features of a branch free of the others up to its decoder.
    """

    selected_rotations: int = 1
    fusion: FusionKind = "gated"
    fusion_weight: float = 0.3
    initial_gate: float = 0.05
    policy: PolicyKind = "contextual"
    cross_modal_attention: bool = True
    position_bias: bool = True
    feeds: Consumer = "skips"

    def __post_init__(self) -> None:
        if self.fusion not in ("gated", "fixed"):
            raise ValueError(f'fusion must be "gated" or "fixed", not {self.fusion!r}')
        if self.feeds not in get_args(Consumer):
            raise ValueError(f'feeds must be "skips" or "encoder", not {self.feeds!r}')
        if not 0 < self.fusion_weight < 0.5:
            raise ValueError(f"fusion_weight must lie between 0 and 0.5, not {self.fusion_weight}")
        if not 0 < self.initial_gate < 1:
            raise ValueError(f"initial_gate must lie between 0 and 1, not {self.initial_gate}")
        if self.selected_rotations < 1:
            raise ValueError(f"selected_rotations must be at least 1, not {self.selected_rotations}")


class ResidualFusion(nn.Module):
    """Fusion of main and aligned maps (eq. 7) and the residual block over both.

    Parameters
    ----------
    channels : int
        Channels of both maps.
    config : XAlignConfig
        Gate or preset weight.
    block_options : dict
        ``conv_op``, ``conv_bias``, ``norm_op``, ``norm_op_kwargs``, ``nonlin`` and ``nonlin_kwargs`` of the encoder.
    kernel_size : sequence of int
        Kernel of the encoder at this stage.
    """

    def __init__(
        self, channels: int, config: XAlignConfig, block_options: dict[str, Any], kernel_size: Sequence[int]
    ) -> None:
        super().__init__()
        if config.fusion == "gated":
            start = torch.logit(torch.tensor(config.initial_gate))
            self.gate_logit = nn.Parameter(start.repeat(channels))
        self.fixed_weight = config.fusion_weight if config.fusion == "fixed" else None
        without_nonlin = {**block_options, "nonlin": None, "nonlin_kwargs": None}
        self.residual = nn.Sequential(
            ConvDropoutNormReLU(input_channels=2 * channels, output_channels=channels, kernel_size=1, stride=1,
                                **block_options),
            ConvDropoutNormReLU(input_channels=channels, output_channels=channels, kernel_size=kernel_size, stride=1,
                                **without_nonlin),
        )  # fmt: skip

    def start_as_identity(self) -> None:
        """Set the last normalization to zero, so that the block adds nothing until it has learnt what to add."""
        if self.residual[-1].norm is not None:
            nn.init.zeros_(self.residual[-1].norm.weight)
            nn.init.zeros_(self.residual[-1].norm.bias)

    def forward(self, main: Tensor, aligned: Tensor) -> Tensor:
        """Fuse (L, C, *spatial) maps into one of the same shape."""
        if self.fixed_weight is None:
            # In the type of the maps: a float32 gate would make float32 maps under mixed precision.
            weight = torch.sigmoid(self.gate_logit).to(main.dtype).view(-1, *[1] * (main.ndim - 2))
        else:
            weight = self.fixed_weight
        fused = main + weight * (aligned - main)
        return fused + self.residual(torch.cat((main, aligned), dim=1))


def turn_by(maps: Tensor, rotations: Tensor, matrices: Tensor, exchanged: Sequence[int]) -> Tensor:
    """Return the mean of each map over its drawn rotations, resampled to the grid where extents differ.

    Parameters
    ----------
    maps : Tensor
        (L, C, *spatial).
    rotations : Tensor
        Integers (L, K_sel).
    matrices : Tensor
        All rotations, as floating point (`rl_nnunet.policies.rotations.rotation_matrices`).
    exchanged : sequence of int
        The axes that they may exchange.
    """
    drawn = rotations.shape[1]
    repeated = maps if drawn == 1 else maps.repeat_interleave(drawn, dim=0)
    turned = rotate_to_grid(repeated, matrices[rotations.flatten()], exchanged)
    return turned if drawn == 1 else turned.unflatten(0, (-1, drawn)).mean(1)


def mean_over_auxiliaries(aligned: Tensor, links: Links) -> Tensor:
    """Return the aligned map of each of the links' main rows."""
    if len(links.fused_rows) == len(links.main):
        return aligned
    total = aligned.new_zeros((len(links.fused_rows), *aligned.shape[1:])).index_add(0, links.position, aligned)
    return total / links.counts.view(-1, *[1] * (aligned.ndim - 1))


def fuse_rows(fusion: ResidualFusion, features: Tensor, links: Links, companions: Sequence[Tensor]) -> Tensor:
    """Return the maps of all rows, fused with their companions: those of the main rows, then those of the lone ones."""
    rows = torch.cat((links.fused_rows, links.lone))
    fused = fusion(features[rows], torch.cat(list(companions)))
    return features.index_copy(0, rows, fused.to(features.dtype))


class XAlign(nn.Module):
    """The alignment module of one encoder stage.

    Parameters
    ----------
    channels : int
        Channels of the stage.
    dimension : int
        2 or 3.
    num_branches : int
        Branches of the network.
    window : sequence of int
        Attention window of this stage in voxels.
    config : XAlignConfig
        Architecture choices.
    block_options, kernel_size
        See `ResidualFusion`.
    turnable_axes : sequence of int, optional
        Axes that rotations may exchange, the others keep their place (`rl_nnunet.policies.rotations.turning`); all by
        default.

    Raises
    ------
    ValueError
        If there are fewer rotations than are to be drawn.
    """

    def __init__(
        self,
        channels: int,
        dimension: int,
        num_branches: int,
        window: Sequence[int],
        config: XAlignConfig,
        block_options: dict[str, Any],
        kernel_size: Sequence[int],
        turnable_axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.exchanged = tuple(range(dimension) if turnable_axes is None else turnable_axes)
        rotations = turning(self.exchanged, dimension)
        if config.selected_rotations > len(rotations):
            raise ValueError(f"selected_rotations cannot be more than the {len(rotations)} rotations of a stage")
        matrices = torch.tensor(rotation_matrices(dimension), dtype=torch.float32)
        self.register_buffer("rotation_matrices", matrices, persistent=False)
        self.register_buffer("form", torch.tensor(FORM))
        self.selected_rotations = config.selected_rotations
        self.attention = None
        if config.cross_modal_attention:
            self.attention = CrossModalAttention(channels, window, position_bias=config.position_bias)
        self.policy = PosePolicy(channels, dimension, num_branches, config.policy, rotations=rotations)
        self.fusion = ResidualFusion(channels, config, block_options, kernel_size)

    def forward(self, features: Tensor, links: Links) -> tuple[Tensor, Alignment | None]:
        """Align and fuse.

        Parameters
        ----------
        features : Tensor
            Feature maps of all present (sample, branch) pairs, (rows, C, *spatial).
        links : Links
            Which row looks at which.

        Returns
        -------
        features : Tensor
            The fused maps, same shape.
        alignment : Alignment or None
            What was done; None without links.
        """
        alignment, companions = None, []
        if len(links.main):
            alignment = self._align(features[links.main], features[links.auxiliary], links.branches)
            companions.append(mean_over_auxiliaries(alignment.aligned, links))
        if len(links.lone):
            own = features[links.lone]
            companions.append(own if self.attention is None else self.attention(own, own))
        return fuse_rows(self.fusion, features, links, companions), alignment

    def _align(self, main: Tensor, auxiliary: Tensor, branches: Tensor) -> Alignment:
        """Return the auxiliary maps of links, attended and turned."""
        context = self.policy.context(main, auxiliary, branches)
        rotations, log_probability, probabilities = self.policy.draw(
            context, self.selected_rotations, most_probable=not self.training
        )
        cross = auxiliary if self.attention is None else self.attention(main, auxiliary)
        aligned = turn_by(cross, rotations, self.rotation_matrices, self.exchanged)
        return Alignment(main, aligned, context, rotations, log_probability, probabilities)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        """Load weights; raise `InputError` if some are lacking, or if they are of a former form."""
        lacking = [name for name in self.state_dict() if f"{prefix}{name}" not in state_dict]
        if lacking or int(state_dict[f"{prefix}form"]) != FORM:
            raise InputError(
                f"The model's RL-XAlign ({prefix.removesuffix('.')}) is that of other plans, or of another version of "
                "rl_nnunet; restore the plans, use that version, or train anew."
            )
        super()._load_from_state_dict(state_dict, prefix, *others)
