"""The ablations of RL-U2Net's Table 2 as trainers, and other choices for its parts."""

from __future__ import annotations

from dataclasses import replace

from rl_nnunet.agents.loss_weights import LossWeightConfig
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer


class RLXAlignTrainerNoCMA(RLXAlignTrainer):
    """Without cross-modal attention: the turned auxiliary map itself is fused."""

    settings = replace(RLXAlignTrainer.settings, architecture={"xalign": {"cross_modal_attention": False}})


class RLXAlignTrainerNoPositions(RLXAlignTrainer):
    """With the attention as the paper prints it, which does not know positions."""

    settings = replace(RLXAlignTrainer.settings, architecture={"xalign": {"position_bias": False}})


class RLXAlignTrainerNoXAlign(RLXAlignTrainer):
    """Without RL-XAlign: the branches share the encoder and do not see each other."""

    settings = replace(
        RLXAlignTrainer.settings,
        architecture={"aligned_stages": [], "windows": [], "turnable_axes": [], "carried_stages": []},
    )


class RLXAlignTrainerNoCarriedStages(RLXAlignTrainer):
    """Without RL-XAlign at strides below 4: what a companion shows in detail does not get through."""

    settings = replace(RLXAlignTrainer.settings, architecture={"carried_stages": []})


class RLXAlignTrainerNoAuxLoss(RLXAlignTrainer):
    """Without the alignment losses (InfoNCE and cosine)."""

    settings = replace(RLXAlignTrainer.settings, alignment_loss=None)


class RLXAlignTrainerNoAGWD(RLXAlignTrainer):
    """Without AGWD: the branches' losses have equal weights."""

    settings = replace(RLXAlignTrainer.settings, loss_weights=None)


class RLXAlignTrainerLossWeightAgent(RLXAlignTrainer):
    """With an agent in AGWD's place, which weighs the branches' losses by what the validation makes of it."""

    settings = replace(RLXAlignTrainer.settings, loss_weights=LossWeightConfig())


class RLXAlignTrainerGlobalPolicy(RLXAlignTrainer):
    """With the paper's policy: one preference per rotation for all inputs."""

    settings = replace(RLXAlignTrainer.settings, architecture={"xalign": {"policy": "global"}})


class RLXAlignTrainerHalfMatched(RLXAlignTrainer):
    """With the branches of half of the samples centered on a class each."""

    settings = replace(RLXAlignTrainer.settings, matched_classes=0.5)


class RLXAlignTrainerSeparateDecoders(RLXAlignTrainer):
    """With a decoder for each branch: the paper's."""

    settings = replace(RLXAlignTrainer.settings, architecture={"shared_decoder": False})


class RLXAlignTrainerBranchNorm(RLXAlignTrainer):
    """With a scale and a shift per branch in the normalizations of the shared encoder (UMMKD's)."""

    settings = replace(RLXAlignTrainer.settings, architecture={"branch_normalization": True})


class RLXAlignTrainerFeedsEncoder(RLXAlignTrainer):
    """With the aligned maps in the next encoder stage, too, and not in the skips alone."""

    settings = replace(RLXAlignTrainer.settings, architecture={"xalign": {"feeds": "encoder"}})
