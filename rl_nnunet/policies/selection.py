"""The policy of the selection agent: which modality a decision is better made without, if any.

A patch has M + 1 actions: to leave out one of the modalities that it has, or none. The weights of the inter agent (see
`rl_nnunet.policies.gaussian`) come near 0 only in many small steps; here, a modality is in or out, which is what the
network has learnt from subsets of its modalities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelectionPolicy(nn.Module):
    """A distribution over M + 1 actions: action m leaves out modality m, the last one nothing.

    Parameters
    ----------
    observation_size : int
        Entries of an observation, each of about zero mean and unit variance.
    modalities : int
        M.
    hidden_size : int
        Units of the hidden layer.
    """

    def __init__(self, observation_size: int, modalities: int, hidden_size: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(observation_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, modalities + 1)
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def log_probabilities(self, observations: Tensor, present: Tensor) -> Tensor:
        """Return the logarithms of the actions' probabilities in nats, (B, M + 1), float32.

        Parameters
        ----------
        observations : Tensor
            (B, S).
        present : Tensor
            Booleans (B, M). What is absent cannot be left out, and neither can the only modality.
        """
        with torch.autocast(observations.device.type, enabled=False):
            logits = self.layers(observations.float())
        possible = present & (present.sum(1, keepdim=True) > 1)
        possible = torch.cat((possible, torch.ones_like(possible[:, :1])), dim=1)
        return logits.masked_fill(~possible, -torch.inf).log_softmax(1)

    @torch.no_grad()
    def forward(self, observations: Tensor, present: Tensor) -> Tensor:
        """Return which modalities the most probable action keeps, booleans (B, M); parameters as above."""
        action = self.log_probabilities(observations, present).argmax(1, keepdim=True)
        left_out = action == torch.arange(present.shape[1], device=present.device)
        return present & ~left_out
