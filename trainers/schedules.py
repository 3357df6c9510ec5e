"""Every trainer with other schedules and with AdamW: ``RLXAlignTrainer_20epochs``, ``RLXAlignTrainerAdamW_250epochs``.

The classes are made, not typed. nnU-Net finds them as it finds any other: as attributes of a module of this folder. A
name is that of a trainer, ``AdamW`` behind it for that optimizer, and nnU-Net's ending for the number of epochs.
"""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from rl_nnunet.trainers.apga_ablations import (
    APGATrainerCutout,
    APGATrainerGradCAM,
    APGATrainerNone,
    APGATrainerPaper,
    APGATrainerScriptLoss,
)
from rl_nnunet.trainers.apga_classification_trainer import (
    APGAClassificationTrainer,
    APGAClassificationTrainerCutout,
    APGAClassificationTrainerGradCAM,
    APGAClassificationTrainerNone,
    APGAClassificationTrainerPaper,
    APGAClassificationTrainerScriptLoss,
)
from rl_nnunet.trainers.apga_trainer import APGARLXAlignTrainer, APGATrainer
from rl_nnunet.trainers.augmentation_policy_trainer import (
    AugmentationPolicyClassificationTrainer,
    AugmentationPolicyRLXAlignTrainer,
    AugmentationPolicyTrainer,
)
from rl_nnunet.trainers.classification_trainer import ClassificationTrainer
from rl_nnunet.trainers.intra_inter_ablations import (
    IntraInterTrainerGate,
    IntraInterTrainerNoAgents,
    IntraInterTrainerNoInter,
    IntraInterTrainerSelection,
)
from rl_nnunet.trainers.intra_inter_classification_trainer import (
    IntraInterClassificationTrainer,
    IntraInterClassificationTrainerFastAgents,
    IntraInterClassificationTrainerNoAgents,
    IntraInterClassificationTrainerNoInter,
)
from rl_nnunet.trainers.intra_inter_trainer import IntraInterTrainer, IntraInterTrainerSGD
from rl_nnunet.trainers.modality_dropout_trainer import (
    nnUNetTrainerModalityDegradation,
    nnUNetTrainerModalityDropout,
)
from rl_nnunet.trainers.rl_xalign_ablations import (
    RLXAlignTrainerBranchNorm,
    RLXAlignTrainerFeedsEncoder,
    RLXAlignTrainerGlobalPolicy,
    RLXAlignTrainerHalfMatched,
    RLXAlignTrainerLossWeightAgent,
    RLXAlignTrainerNoAGWD,
    RLXAlignTrainerNoAuxLoss,
    RLXAlignTrainerNoCarriedStages,
    RLXAlignTrainerNoCMA,
    RLXAlignTrainerNoPositions,
    RLXAlignTrainerNoXAlign,
    RLXAlignTrainerSeparateDecoders,
)
from rl_nnunet.trainers.rl_xalign_trainer import RLXAlignTrainer
from rl_nnunet.training.schedules import AdamW, NoMirroring, make_trainer, schedule_of

EPOCHS = (1, 5, 10, 20, 50, 100, 250, 500, 750, 2000, 4000, 8000)
"""Those that nnU-Net has for its own trainer, beside those of the trainers themselves (1000; classifiers 100)."""
TRAINERS = (
    RLXAlignTrainer,
    RLXAlignTrainerNoXAlign,
    RLXAlignTrainerNoCarriedStages,
    RLXAlignTrainerNoCMA,
    RLXAlignTrainerNoPositions,
    RLXAlignTrainerNoAuxLoss,
    RLXAlignTrainerNoAGWD,
    RLXAlignTrainerLossWeightAgent,
    RLXAlignTrainerGlobalPolicy,
    RLXAlignTrainerHalfMatched,
    RLXAlignTrainerBranchNorm,
    RLXAlignTrainerSeparateDecoders,
    RLXAlignTrainerFeedsEncoder,
    IntraInterTrainer,
    IntraInterTrainerSGD,
    IntraInterTrainerNoInter,
    IntraInterTrainerNoAgents,
    IntraInterTrainerGate,
    IntraInterTrainerSelection,
    nnUNetTrainerModalityDropout,
    nnUNetTrainerModalityDegradation,
    APGATrainer,
    APGARLXAlignTrainer,
    APGATrainerPaper,
    APGATrainerScriptLoss,
    APGATrainerNone,
    APGATrainerCutout,
    APGATrainerGradCAM,
    AugmentationPolicyTrainer,
    AugmentationPolicyRLXAlignTrainer,
)
CLASSIFICATION_TRAINERS = (
    APGAClassificationTrainer,
    APGAClassificationTrainerPaper,
    APGAClassificationTrainerScriptLoss,
    APGAClassificationTrainerNone,
    APGAClassificationTrainerCutout,
    APGAClassificationTrainerGradCAM,
    AugmentationPolicyClassificationTrainer,
    ClassificationTrainer,
    IntraInterClassificationTrainer,
    IntraInterClassificationTrainerNoInter,
    IntraInterClassificationTrainerNoAgents,
    IntraInterClassificationTrainerFastAgents,
)


def made_trainers() -> dict[str, type[nnUNetTrainer]]:
    """Return all trainers that this module makes, by name."""
    made = {
        f"{base.__name__}AdamW": make_trainer(f"{base.__name__}AdamW", (AdamW, base), __name__)
        for base in (*TRAINERS, *CLASSIFICATION_TRAINERS)
        if base is not IntraInterTrainerSGD
    }
    for base in [*TRAINERS, *CLASSIFICATION_TRAINERS, *made.values()]:
        for epochs in EPOCHS:
            name = f"{base.__name__}_{epochs}epoch{'s' if epochs > 1 else ''}"
            made[name] = make_trainer(name, (base,), __name__, schedule=schedule_of(epochs))
    # A schedule that two CPU cores finish in minutes; for demonstrations, not for results.
    demo = {"num_epochs": 12, "num_iterations_per_epoch": 75, "num_val_iterations_per_epoch": 5, "save_every": 2}
    name, bases = "RLXAlignTrainerDemo", (NoMirroring, AdamW, RLXAlignTrainer)
    made[name] = make_trainer(name, bases, __name__, schedule=demo)
    return made


globals().update(made_trainers())
