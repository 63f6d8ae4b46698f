from pathlib import Path

from setuptools import find_packages, setup

KIT_COMMIT = "e3ce697"

setup(
    name="doof_ext",
    version="0.1.0",
    description="DOOF (Decoupled Offline to Online Finetuning via a dynamics model) as a plugin for OfflineRL-Kit",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    packages=find_packages(include=["doof_ext", "doof_ext.*"]),
    package_data={
        "doof_ext.tasks": ["*.npz"],
        "doof_ext.data": ["behaviours/*.safetensors"],
        "doof_ext.report": ["*.jinja"],
    },
    install_requires=[
        "torch>=2.2",
        "numpy>=1.23",
        "gymnasium[mujoco]>=1.0",
        "mujoco>=2.3.7,<3.3",  # from 3.3 on contacts changed; see README, "Physics"
        "h5py>=3.8",
        "safetensors>=0.4",
        "tqdm>=4.60",
        "filelock>=3.12",
        "tensorboard>=2.10",
        "wandb>=0.18",
    ],
    extras_require={
        "minari": ["minari[hdf5,hf]>=0.5"],
        "adroit": ["gymnasium-robotics>=1.3"],
        "report": [
            "jinja2>=3.1",
            "matplotlib>=3.7",
            "rliable>=1.2",
            "pandas<3",
        ],  # rliable's arch does not import beside pandas 3
        "render": ["imageio[ffmpeg]>=2.28"],
        "tune": ["ray[tune]>=2.9"],
        "legacy": ["gym==0.23.1", "numpy<1.24", "Cython<3"],
        "kit": [f"offlinerlkit @ git+https://github.com/yihaosun1124/OfflineRL-Kit@{KIT_COMMIT}", "glfw", "imageio"],
        "dev": ["pytest>=8", "hypothesis>=6", "ruff>=0.6"],
    },
)
