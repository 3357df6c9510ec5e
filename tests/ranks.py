"""Two processes that train together as nnU-Net's `-num_gpus 2` does, but on the CPU, with gloo in the place of NCCL."""

from datetime import timedelta

import torch
from torch import distributed, multiprocessing

TIMEOUT = timedelta(minutes=10)
"""After which a rank that waits for another one fails."""


def on_two_ranks(work, folder, *arguments):
    """Run ``work(*arguments)`` on two ranks at once; return what each of them returns."""
    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.spawn(_run, (work, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=False) for rank in range(2)]


def _run(rank, work, folder, arguments):
    torch.set_num_threads(1)
    store = f"file://{folder}/store_{work.__name__}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=TIMEOUT)
    torch.save(work(*arguments), f"{folder}/rank_{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
