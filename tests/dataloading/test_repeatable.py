"""nnU-Net's blur must not decide by the clock how it convolves."""

from batchgeneratorsv2.transforms.noise import gaussian_blur
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.dataloading.keep_blank import KeepBlank
from rl_nnunet.dataloading.repeatable import make_repeatable


def blurs(transform):
    if isinstance(transform, gaussian_blur.GaussianBlurTransform):
        return [transform]
    inner = [*getattr(transform, "transforms", []), getattr(transform, "transform", None)]
    return [blur for each in inner if each is not None for blur in blurs(each)]


def test_all_blurs_of_nnunets_augmentation_stop_timing():
    stock = nnUNetTrainer.get_training_transforms((8, 8, 8), (0, 0), None, None, False, use_mask_for_norm=[False])
    timed = [blur for blur in blurs(stock) if blur.benchmark]
    assert timed, "nnU-Net does not time its blur any more: rl_nnunet.dataloading.repeatable can go"
    assert make_repeatable(KeepBlank(stock, [0.0])) == len(blurs(stock))
    assert not any(blur.benchmark for blur in blurs(stock))
