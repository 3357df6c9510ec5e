"""Settings of ``IntraInterTrainer`` that are not part of the architecture (those are in the plans)."""

from __future__ import annotations

from dataclasses import dataclass

from rl_nnunet.agents.ppo import PPOConfig
from rl_nnunet.agents.selection import SelectionConfig
from rl_nnunet.agents.weights import WEIGHT_PPO
from rl_nnunet.training.settings import TrainerSettings


@dataclass(frozen=True)
class AdamConfig:
    """Adam of the backbone; the defaults are the paper's (section 3.1).

    Parameters
    ----------
    learning_rate : float
        Where nnU-Net's polynomial decay begins.
    weight_decay : float
        L2 penalty.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 1e-5


@dataclass(frozen=True)
class IntraInterSettings(TrainerSettings):
    """What `IntraInterTrainer` trains with.

    Parameters
    ----------
    ppo : PPOConfig
        Of the intra and the inter agent.
    adam : AdamConfig or None
        Of the backbone; None keeps nnU-Net's SGD.
    selection : SelectionConfig
        Of the selection agent.
    degradation : float
        Share of the samples of which one modality is degraded where the plans do not state ``modality_degradation``,
        in [0, 1].
    """

    ppo: PPOConfig = WEIGHT_PPO
    adam: AdamConfig | None = AdamConfig()
    selection: SelectionConfig = SelectionConfig()
    degradation: float = 0.0
