"""What is logged and drawn of PPO's updates: whether its steps are of a size that it can take."""

from __future__ import annotations

from rl_nnunet.progress_plot import Panel


def diagnostic_panels(name: str) -> tuple[Panel, ...]:
    """Return what to draw of the updates of an agent of some name: whether PPO's steps are of a size that it can take.

    The approximate KL divergence between the policies before and after an update ends about ``target_kl``; at 0, like
    the fraction of clipped ratios, it means that nothing is learnt.
    """
    return (
        Panel("PPO: approximate KL divergence of an update", "nats", (f"approximate_kl_{name}",)),
        Panel("PPO: fraction of clipped ratios", "fraction", (f"clip_fraction_{name}",)),
    )


def diagnostics(update: dict[str, float] | None, name: str) -> dict[str, float]:
    """Return the log entries of `diagnostic_panels`, given what `PPO.update_if_ready` returned; none without update."""
    return {f"{key}_{name}": update[key] for key in ("approximate_kl", "clip_fraction")} if update else {}
