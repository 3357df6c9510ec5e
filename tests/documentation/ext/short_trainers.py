"""Our trainers under their own names, with a schedule of seconds: nnU-Net finds them first, in front of ours."""

import torch

from rl_nnunet.trainers import intra_inter_ablations, intra_inter_trainer, rl_xalign_ablations, rl_xalign_trainer


def shortened(trainer):
    """Return a trainer of the same name that trains for one epoch of two iterations."""

    class Short(trainer):
        # nnU-Net reads the names of the parameters: no *args.
        def __init__(
            self,
            plans: dict,
            configuration: str,
            fold: int,
            dataset_json: dict,
            device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs = 1
            self.num_iterations_per_epoch = 2
            self.num_val_iterations_per_epoch = 1

    Short.__name__ = Short.__qualname__ = trainer.__name__
    return Short


for _module in (rl_xalign_trainer, rl_xalign_ablations, intra_inter_trainer, intra_inter_ablations):
    for _name, _trainer in list(vars(_module).items()):
        if _name.startswith(("RLXAlignTrainer", "IntraInterTrainer")):
            globals()[_name] = shortened(_trainer)
