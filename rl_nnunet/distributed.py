"""Several processes that train one network (`nnUNetv2_train -num_gpus`): what they tell each other, and agree on.

nnU-Net starts one process per GPU, a *rank*, and wraps the network in torch's DistributedDataParallel (DDP), which
averages its gradients. Each rank has a batch of its own. All that our agents and losses know of that is here.

Every function but `leave_to_agents` is a *collective*: all ranks must call it, in the same order, or they wait for each
other forever. With one process, each returns what it was given.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def is_distributed() -> bool:
    """Return whether there are other ranks."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return the number of this process, from 0 on."""
    return distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if is_distributed() else 1


def barrier() -> None:
    """Wait for all ranks."""
    if is_distributed():
        distributed.barrier()


# ---- what ranks tell each other ------------------------------------------------------------------------------------


def _to_talk(tensor: Tensor) -> Tensor:
    """Return a tensor where the ranks can exchange it: NCCL knows GPUs only."""
    return tensor.cuda() if "nccl" in distributed.get_backend() else tensor


def gather(value: Any) -> list[Any]:
    """Return the values of all ranks in order, of any type; with several ranks, their tensors are on the CPU."""
    if not is_distributed():
        return [value]
    buffer = io.BytesIO()
    torch.save(value, buffer)
    packed: list[Any] = [None] * world_size()
    distributed.all_gather_object(packed, buffer.getvalue())
    return [torch.load(io.BytesIO(one), map_location="cpu", weights_only=False) for one in packed]


def sum_over_ranks(values: Sequence[float]) -> list[float]:
    """Return the sum over the ranks of each of some numbers."""
    if not is_distributed():
        return list(values)
    sums = _to_talk(torch.tensor(values, dtype=torch.float64))
    distributed.all_reduce(sums)
    return sums.tolist()


def summed_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum over the ranks of a tensor of equal shape on all of them, without gradient."""
    if not is_distributed():
        return tensor
    total = _to_talk(tensor.detach().clone())
    distributed.all_reduce(total)
    return total.to(tensor.device)


def all_agree(condition: bool) -> bool:
    """Return whether a condition holds on all ranks."""
    return sum_over_ranks([float(condition)])[0] == world_size()


def shares(counts: Sequence[int]) -> list[float | None]:
    """Return each of this rank's counts relative to its mean over the ranks; None where no rank has any.

    A mean over the samples of a rank, times the share of its samples and averaged over the ranks as DDP averages
    gradients, is the mean over all samples. With one process, shares are 1 or None.
    """
    totals = sum_over_ranks(counts)
    return [count * world_size() / total if total else None for count, total in zip(counts, totals, strict=True)]


# ---- what is equal on all ranks ------------------------------------------------------------------------------------


@contextlib.contextmanager
def drawn_alike() -> Iterator[None]:
    """Draw the same on all ranks in the block, from torch's global generator of the CPU: what rank 0 would draw.

    Afterwards, the other ranks go on where they were: what they draw of their own data stays theirs.
    """
    if not is_distributed():
        yield
        return
    own = torch.get_rng_state()
    common = _to_talk(own.clone())
    distributed.broadcast(common, 0)
    torch.set_rng_state(common.cpu())
    try:
        yield
    finally:
        if rank() != 0:
            torch.set_rng_state(own)


@torch.no_grad()
def share_parameters(*modules: nn.Module) -> None:
    """Give all ranks the parameters of rank 0: GPUs need not agree in the last digit of what all ranks compute."""
    if is_distributed():
        for parameter in (parameter for module in modules for parameter in module.parameters()):
            common = _to_talk(parameter.detach().contiguous())
            distributed.broadcast(common, 0)
            parameter.copy_(common)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients with their means over the ranks, for a module that DDP does not know."""
    if is_distributed():
        for parameter in (parameter for parameter in parameters if parameter.grad is not None):
            parameter.grad = summed_over_ranks(parameter.grad) / world_size()


# ---- what DDP has to know ------------------------------------------------------------------------------------------


def leave_to_agents(network: nn.Module, parameters: Iterable[str]) -> None:
    """Take parameters that no loss trains, given by name, and all buffers out of what DDP will keep equal.

    Their agents keep such parameters equal. Buffers are constants, or kept equal where they are updated; DDP would send
    them before every pass, also where some ranks have a pass and others have none. It has to be said before nnU-Net
    wraps the network, and nothing of the network changes by it.
    """
    names = [*parameters, *(name for name, _ in network.named_buffers())]
    compiled = [f"_orig_mod.{name}" for name in names]  # their names once torch.compile is around the network
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, [*names, *compiled])


def use_every_parameter(loss: nn.Module, network: nn.Module) -> None:
    """Add 0 times every parameter that DDP knows to a loss, from now on, wherever it has a gradient.

    DDP waits for the gradient of every parameter, also of those that this rank's batch has not used: the decoder of a
    branch that it lacks. The product is made before the loss, so that its gradient comes after all of the loss: where a
    loss sums over the ranks, its backward pass has collectives, and those of DDP must come after them on every rank.
    """
    ignored = set(getattr(network, "_ddp_params_and_buffers_to_ignore", ()))
    parameters = [p for name, p in network.named_parameters() if p.requires_grad and name not in ignored]
    pending: list[Tensor] = []

    def before(_loss: nn.Module, _inputs: Any) -> None:
        pending.clear()
        if torch.is_grad_enabled():
            pending.append(0 * sum(parameter.sum() for parameter in parameters))

    def after(_loss: nn.Module, _inputs: Any, result: Tensor) -> Tensor:
        return result + pending.pop() if pending else result

    loss.register_forward_pre_hook(before)
    loss.register_forward_hook(after)
