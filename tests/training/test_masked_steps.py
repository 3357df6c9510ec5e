"""Parts of a batch."""

import numpy as np
import torch

from rl_nnunet.training.masked_steps import take_rows


def test_rows_of_batches_of_both_loaders():
    scales = [torch.arange(6).view(3, 2), torch.arange(3).view(3, 1)]
    batch = {
        "data": torch.arange(3),
        "target": scales,
        "keys": {"CT": ["a", "b", "c"]},
        "matched": [True, False, True],
        "names": np.array(["x", "y", "z"]),
        "is_aided": True,
    }
    taken = take_rows(batch, [0, 2])
    assert taken["data"].tolist() == [0, 2]
    assert [scale.tolist() for scale in taken["target"]] == [[[0, 1], [4, 5]], [[0], [2]]]
    assert taken["keys"] == {"CT": ["a", "c"]}
    assert taken["matched"] == [True, True]
    assert taken["names"].tolist() == ["x", "z"]
    assert taken["is_aided"] is True
