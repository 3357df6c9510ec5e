"""The ablations of the intra- and inter-modality agents' Table 2 as trainers."""

from __future__ import annotations

from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer


class IntraInterTrainerNoInter(IntraInterTrainer):
    """Without the inter agent (the paper's "w/o Inter"): the modalities are concatenated with equal weights."""

    architecture_overrides = {"agents": ["intra"]}


class IntraInterTrainerNoAgents(IntraInterTrainer):
    """Without agents (the paper's "Baseline"): one pass, no refinement."""

    architecture_overrides = {"agents": [], "iterations": 0}
