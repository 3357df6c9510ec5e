"""One mirroring for all branches of a sample, within nnU-Net's own augmentation."""

import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from rl_nnunet.branches import Branch, BranchLayout
from rl_nnunet.dataloading.keep_blank import KeepBlank
from rl_nnunet.dataloading.shared_mirroring import SharedMirror, SharedMirroring
from rl_nnunet.dataloading.unpaired_loader import UnpairedDataLoader
from rl_nnunet.policies.rotations import rotate_all


def mirrors(transform):
    inner = [*getattr(transform, "transforms", []), getattr(transform, "transform", None)]
    own = [transform] if isinstance(transform, MirrorTransform) else []
    return own + [mirror for each in inner if each is not None for mirror in mirrors(each)]


def test_branches_are_mirrored_alike_by_nnunets_transform():
    torch.manual_seed(0)
    pipelines = [KeepBlank(ComposeTransforms([MirrorTransform((0, 1, 2))]), [-9.0]) for _ in range(3)]
    mirroring, image = SharedMirroring(pipelines), torch.randn(1, 3, 4, 5)
    seen = set()
    for _ in range(10):
        mirroring.start_batch()
        drawn = []
        for pipeline in pipelines:  # branch by branch, as the loader goes
            samples = [pipeline(image=image, segmentation=image)["image"] for _ in range(4)]
            drawn.append(torch.stack(samples))
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
        seen |= {tuple(sample[0, [0, -1], 0, 0].tolist()) for sample in drawn[0]}
    assert len(seen) == 8  # every mirroring comes up, and samples have draws of their own


def test_every_mirroring_of_nnunets_augmentation_is_found():
    stock = nnUNetTrainer.get_training_transforms((8, 8, 8), (0, 0), None, (0, 1), False, use_mask_for_norm=[False])
    (before,) = mirrors(stock)
    SharedMirroring([KeepBlank(stock, [0.0]), None, lambda **sample: sample])
    (after,) = mirrors(stock)
    assert isinstance(after, SharedMirror)
    assert after.allowed_axes == before.allowed_axes


def test_in_the_loader_a_rotation_brings_the_branches_together(monkeypatch, write_preprocessed):
    """Both branches come from one case and are centered alike: without the mirroring they would be equal."""
    layout = BranchLayout((Branch("CT", (0,)), Branch("MRI", (1, 2))), "unpaired")
    labels = LabelManager({"background": 0, "one": 1, "two": 2, "three": 3}, None)
    dataset = write_preprocessed({"a": "pair"}, classes=(1,))
    loader = UnpairedDataLoader(
        dataset, layout, labels, lambda channels: ComposeTransforms([MirrorTransform((0, 1, 2))]), batch_size=8,
        patch_size=(8, 8, 8), final_patch_size=(8, 8, 8), oversample_foreground_percent=1.0,
    )  # fmt: skip
    monkeypatch.setattr(nnUNetDataLoader, "get_bbox", lambda *_: ([4, 4, 4], [12, 12, 12]))
    mirrored = 0
    for _ in range(3):
        ct, mri = next(loader)["target"].chunk(2, dim=1)
        assert torch.equal(ct, mri)
        mirrored += sum(not torch.equal(sample, ct[0]) for sample in ct)
        turned = rotate_all(mri, 3)
        assert all(any(torch.equal(one, ct[i]) for one in turned[:, i]) for i in range(8))
    assert mirrored > 0
