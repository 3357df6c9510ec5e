"""The ablations of the intra- and inter-modality agents' Table 2 as trainers, and other agents in their place."""

from __future__ import annotations

from dataclasses import replace

from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer

SELECTION_TRIALS = 0.5
"""Share of the steps in which every modality is left out for a try: all outcomes are known then, and half is enough."""
SELECTION_DEGRADATION = 0.5
"""Share of the samples of which one modality is degraded: without any, there is nothing to be learnt."""


class IntraInterTrainerNoInter(IntraInterTrainer):
    """Without the inter agent (the paper's "w/o Inter"): the modalities are concatenated with equal weights."""

    settings = replace(IntraInterTrainer.settings, architecture={"agents": ["intra"]})


class IntraInterTrainerNoAgents(IntraInterTrainer):
    """Without agents (the paper's "Baseline"): one pass, no refinement."""

    settings = replace(IntraInterTrainer.settings, architecture={"agents": [], "iterations": 0})


class IntraInterTrainerGate(IntraInterTrainer):
    """With gates in the place of agents: the same weights from the same observations, learnt from the loss."""

    settings = replace(IntraInterTrainer.settings, architecture={"learning": "gradient"})


class IntraInterTrainerSelection(IntraInterTrainer):
    """With one agent that leaves out a modality where the decision is better without it; it trains on degraded ones."""

    settings = replace(
        IntraInterTrainer.settings,
        architecture={"agents": ["selection"], "iterations": 0, "exploration_share": SELECTION_TRIALS},
        degradation=SELECTION_DEGRADATION,
    )
