"""Settings of ``RLXAlignTrainer`` that are not part of the architecture (those are in the plans)."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl_nnunet.agents.loss_weights import LossWeightConfig
from rl_nnunet.agents.pose import SimilarityKind
from rl_nnunet.agents.ppo import PPOConfig
from rl_nnunet.losses.adaptive_weights import AdaptiveWeightsConfig
from rl_nnunet.losses.branched_loss import AlignmentLossConfig
from rl_nnunet.training.settings import TrainerSettings


@dataclass(frozen=True)
class RLXAlignSettings(TrainerSettings):
    """What `RLXAlignTrainer` trains with.

    Parameters
    ----------
    loss_weights : AdaptiveWeightsConfig or LossWeightConfig or None
        How the branches' losses are weighed: by AGWD, of Dice and of cross entropy; by the loss-weight agent, of both
        alike; or, None, equally.
    alignment_loss : AlignmentLossConfig or None
        InfoNCE and cosine losses; None leaves them out.
    ppo : PPOConfig
        Of every agent. The discount is 0 instead of `PPOConfig`'s: the next patches do not depend on what was drawn for
        these (see `rl_nnunet.agents.pose`).
    matched_classes : float
        Share of the samples of unpaired data whose branches are centered on one class, where foreground is forced;
        prediction knows no class.
    similarity : {"anatomical", "feature"}
        S of the agents' state and reward, see `rl_nnunet.agents.pose`.
    """

    loss_weights: AdaptiveWeightsConfig | LossWeightConfig | None = field(default_factory=AdaptiveWeightsConfig)
    alignment_loss: AlignmentLossConfig | None = field(default_factory=AlignmentLossConfig)
    ppo: PPOConfig = field(default_factory=lambda: PPOConfig(discount=0.0))
    matched_classes: float = 1.0
    similarity: SimilarityKind = "anatomical"
