"""Packaging: every top-level folder is one socket of nnU-Net, installed below the one package ``rl_nnunet``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

CHECKOUT = Path(__file__).parent
SOCKETS = ("trainers", "planners", "dataset_conversion")


def read(name: str) -> str:
    """Return the text of a file of the checkout."""
    return (CHECKOUT / name).read_text(encoding="utf-8")


setup(
    name="rl_nnunet",
    # Read, not imported: a build knows none of our dependencies.
    version=re.search(r'^__version__ = "(.+)"$', read("rl_nnunet/__init__.py"), re.MULTILINE)[1],
    description="Reinforcement-learning-driven multi-modal segmentation as a plugin for unmodified nnU-Net v2",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The rl_nnunet authors",
    keywords=[
        "nnU-Net",
        "medical image segmentation",
        "multi-modal",
        "missing modalities",
        "reinforcement learning",
        "CT",
        "MRI",
    ],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    project_urls={
        "nnU-Net": "https://github.com/MIC-DKFZ/nnUNet",
        "RL-U2Net": "https://arxiv.org/abs/2508.02557",
    },
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["rl_nnunet", "rl_nnunet.*"]),
        *(f"rl_nnunet.{socket}" for socket in SOCKETS),
    ],
    package_dir={"rl_nnunet": "rl_nnunet", **{f"rl_nnunet.{socket}": socket for socket in SOCKETS}},
    package_data={"rl_nnunet": ["py.typed"]},
    install_requires=[
        "nnunetv2>=2.8,<2.9",
        "dynamic-network-architectures>=0.4.4,<0.5",
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.26",
        "scipy",
        "SimpleITK>=2.3",
        "scikit-learn",
        # torch brings it along, too; the lock of an open file has been part of it since this version.
        "filelock>=3.30",
        # nnU-Net or setuptools bring these along; we import them, too.
        "batchgenerators",
        "batchgeneratorsv2",
        "blosc2",
        "nibabel",
        "packaging",
        "pillow",
        "scikit-image",
        "pandas",
        "matplotlib",
        "tqdm",
        # Weights that run no code when they are loaded: models to give to others. timm, which nnU-Net needs, has it.
        "safetensors",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "ruff>=0.15",
            "torchrl>=0.11",
            "build",
            "setuptools>=70.1",
            # Holds the floors of pyproject.toml: which module may import which.
            "import-linter>=2.15",
        ]
    },
    entry_points={
        "console_scripts": [
            "rl_nnunet_env = rl_nnunet.environment_command:main",
            "rl_nnunet_make_phantom = rl_nnunet.phantoms.make_phantom:main",
            "rl_nnunet_convert_mmwhs = rl_nnunet.dataset_conversion.convert_mmwhs:main",
            "rl_nnunet_convert_unpaired = rl_nnunet.dataset_conversion.convert_unpaired:main",
            "rl_nnunet_convert_paired = rl_nnunet.dataset_conversion.convert_paired:main",
            "rl_nnunet_convert_brats = rl_nnunet.dataset_conversion.convert_brats:main",
            "rl_nnunet_convert_lndb = rl_nnunet.dataset_conversion.convert_lndb:main",
            "rl_nnunet_convert_images_2d = rl_nnunet.dataset_conversion.convert_images_2d:main",
            "rl_nnunet_convert_brats_predictions = rl_nnunet.dataset_conversion.convert_brats_predictions:main",
            "rl_nnunet_add_branches = rl_nnunet.dataset_conversion.add_branches:main",
            "rl_nnunet_plan_and_preprocess = rl_nnunet.planners.plan_and_preprocess:main",
            "rl_nnunet_evaluate_subsets = rl_nnunet.evaluation.evaluate_subsets:main",
            "rl_nnunet_report = rl_nnunet.evaluation.report.command:main",
            "rl_nnunet_train_folds = rl_nnunet.training.train_folds:main",
            "rl_nnunet_cross_validate = rl_nnunet.evaluation.cross_validate:main",
            "rl_nnunet_predict = rl_nnunet.prediction.predict:main",
            "rl_nnunet_classify = rl_nnunet.prediction.classify:main",
            "rl_nnunet_export_model = rl_nnunet.sharing.export_model:main",
            "rl_nnunet_demo = rl_nnunet.demo:main",
        ]
    },
)
