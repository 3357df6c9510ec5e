"""Training on samples of which one modality is degraded, with any nnU-Net trainer of paired data."""

from __future__ import annotations

from rl_nnunet.dataloading.degradation import degrade_batch
from rl_nnunet.plans.modality_shares import planned_modality_degradation
from rl_nnunet.training.refusal import refusing


class DegradedModalities:
    """Trains on degraded samples, by the ``modality_degradation`` of the plans; validations see sound ones.

    Goes before an nnU-Net trainer in the list of bases, after `AgentTraining` where there is one. Samples are degraded
    when they come from the loader, after nnU-Net's augmentation and what is withheld, a whole batch at once: one kind
    of damage is the scan of another sample.
    """

    def usual_degradation(self) -> float:
        """Return the share of the samples that is degraded where the plans do not state it."""
        return 0.0

    def initialize(self) -> None:
        """Initialize as nnU-Net does, once the share is known to be one."""
        with refusing():
            self.degraded_share = planned_modality_degradation(
                self.configuration_manager.configuration, self.usual_degradation()
            )
        super().initialize()

    def train_step(self, batch: dict) -> dict:
        """Train as nnU-Net does, on degraded samples."""
        if self.degraded_share > 0:
            spacing = self.configuration_manager.spacing
            batch = {**batch, "data": degrade_batch(batch["data"], self.degraded_share, spacing)}
        return super().train_step(batch)
