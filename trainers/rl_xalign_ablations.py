"""The ablations of RL-U2Net's Table 2 as trainers, and the paper's global policy."""

from __future__ import annotations

from dataclasses import replace

from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer


class RLXAlignTrainerNoCMA(RLXAlignTrainer):
    """Without cross-modal attention: the turned auxiliary map itself is fused."""

    settings = replace(RLXAlignTrainer.settings, architecture={"xalign": {"cross_modal_attention": False}})


class RLXAlignTrainerNoXAlign(RLXAlignTrainer):
    """Without RL-XAlign: the branches share the encoder and do not see each other."""

    settings = replace(
        RLXAlignTrainer.settings, architecture={"aligned_stages": [], "windows": [], "turnable_axes": []}
    )


class RLXAlignTrainerNoAuxLoss(RLXAlignTrainer):
    """Without the alignment losses (InfoNCE and cosine)."""

    settings = replace(RLXAlignTrainer.settings, alignment_loss=None)


class RLXAlignTrainerNoAGWD(RLXAlignTrainer):
    """Without AGWD: the branches' losses are summed."""

    settings = replace(RLXAlignTrainer.settings, adaptive_weights=None)


class RLXAlignTrainerGlobalPolicy(RLXAlignTrainer):
    """With the paper's policy: one preference per rotation for all inputs."""

    settings = replace(RLXAlignTrainer.settings, architecture={"xalign": {"policy": "global"}})
