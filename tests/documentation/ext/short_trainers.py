"""Our trainers under their own names, with a schedule of seconds: nnU-Net finds them first, in front of ours."""

from rl_nnunet.trainers.schedules import CLASSIFICATION_TRAINERS, TRAINERS
from rl_nnunet.training.schedules import make_trainer

SCHEDULE = {"num_epochs": 1, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}

globals().update(
    {
        trainer.__name__: make_trainer(trainer.__name__, (trainer,), __name__, schedule=SCHEDULE)
        for trainer in (*TRAINERS, *CLASSIFICATION_TRAINERS)
    }
)
