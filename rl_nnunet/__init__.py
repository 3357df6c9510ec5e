"""rl_nnunet: reinforcement-learning-driven multi-modal segmentation as a plugin for unmodified nnU-Net v2."""

from pathlib import Path

# The one place of the version: setup.py reads this line.
__version__ = "0.1.0"

# In a checkout that is not installed, the sockets (trainers, planners, dataset_conversion) lie beside this package.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "setup.py").is_file() and (_checkout / "trainers").is_dir():
    __path__.append(str(_checkout))
