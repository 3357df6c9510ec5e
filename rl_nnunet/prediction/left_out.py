"""What the selection agent leaves out of a scan: the sequence that, by its judgment, does not fit the others.

A user sees nothing of it in a segmentation, and would want to: a sequence that is left out in most windows is worth a
look at its registration, its quality, and whose it is (docs/benchmarks.md tells how often that is right).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rl_nnunet.networks.iterated_net import SELECTION


class LeftOut:
    """Counts the windows in which the selection policy of a network leaves out each modality.

    Only windows count in which the network segments something: in the others, nothing depends on what is left out.

    Parameters
    ----------
    network : nn.Module
        Whose predictions are watched from now on. Of one without that policy, nothing is counted.
    modalities : sequence of str
        Names of its modalities.
    """

    def __init__(self, network: nn.Module, modalities: Sequence[str]) -> None:
        self.modalities = tuple(modalities)
        self._chosen: tuple[Tensor, Tensor] | None = None
        self._counts: Tensor | None = None
        policies = getattr(network, "policies", {})
        if SELECTION in policies:
            policies[SELECTION].register_forward_hook(self._note)
            network.register_forward_hook(self._count)

    def _note(self, policy: nn.Module, inputs: tuple[Tensor, Tensor], kept: Tensor) -> None:
        """Note what is left out of the windows at hand, and what they have."""
        self._chosen = inputs[1] & ~kept, inputs[1]

    def _count(self, network: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        """Add the windows that show something, on the device, which nobody waits for."""
        shown = logits > 0 if network.observer.regions else logits.argmax(1) > 0
        is_shown = shown.flatten(1).any(1)[:, None]
        counts = torch.stack([(windows & is_shown).sum(0) for windows in self._chosen])
        self._counts = counts if self._counts is None else self._counts + counts

    def take(self) -> dict[str, float]:
        """Return the share of the windows with a modality in which it was left out, since the last time.

        Of modalities that no window had, there is nothing.
        """
        counts, self._counts = self._counts, None
        if counts is None:
            return {}
        shares = zip(self.modalities, *counts.tolist(), strict=True)
        return {name: left_out / present for name, left_out, present in shares if present}
