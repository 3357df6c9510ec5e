"""The loss of a classifier: the cross entropy, of each sample or of all."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ClassificationLoss(nn.Module):
    """Mean cross entropy of logits (B, classes) and labels (B,), integers."""

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy of each sample in nats, (B,), float32."""
        return F.cross_entropy(logits.float(), labels, reduction="none")

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the samples."""
        return self.per_sample(logits, labels).mean()
