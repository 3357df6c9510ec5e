"""Counts what makes the host wait for the device. On a CPU nothing waits, but the same calls are made."""

import sys
from collections import Counter
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATIONS = ("_local_scalar_dense", "nonzero", "unique", "_unique2", "unique_dim", "unique_consecutive", "equal")
"""Of ATen; their results are on the host, or of a size that only the device knows. So is indexing by booleans."""
METHODS = (torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy)
"""Copies to the host, no operations where the tensor is there already."""
PACKAGES = ("rl_nnunet", "nnunetv2")


class _Operations(TorchDispatchMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in OPERATIONS or any(index is not None and index.dtype == torch.bool for index in indices):
            self.found()
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in METHODS:
            self.found()
        return func(*args, **(kwargs or {}))


class Synchronizations:
    """Context manager; `places` counts by file and function of rl_nnunet or nnunetv2 where the host would have waited.

    Torch's own calls are counted where one of both packages made them.
    """

    def __init__(self):
        self.places = Counter()
        self._modes = (_Methods(self._found), _Operations(self._found))

    def __enter__(self):
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error):
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def _found(self):
        frame = sys._getframe(2)  # of the mode's caller
        while frame is not None:
            path, function = Path(frame.f_code.co_filename), frame.f_code.co_name
            is_ours = any(package in path.parts for package in PACKAGES) or path.parent.name == "trainers"
            if is_ours and path.name != Path(__file__).name and not function.startswith("<"):
                break
            frame = frame.f_back
        self.places[f"{path.stem}.{function}" if frame else "elsewhere"] += 1
