"""The toy system, and states of it on meshes of 1 and 8 devices."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np
import pytest

from gasmcast.training.loop import FitResult
from gasmcast.training.optim import make_optimizer
from gasmcast.training.sharding import ShardingConfig, make_mesh
from gasmcast.training.state import TrainState, create_state
from tests.training import toy_system


@pytest.fixture
def system() -> toy_system.ToySystem:
  return toy_system.ToySystem()


@pytest.fixture
def mesh() -> jax.sharding.Mesh:
  return make_mesh()


@pytest.fixture
def new_state() -> Callable[..., TrainState]:
  """A fresh state of the toy system; `mesh` defaults to all 8 devices."""

  def create(system=None, mesh=None, sharding=None, pretrained=None, average=False) -> TrainState:
    tx, _ = make_optimizer(toy_system.config().optim, steps=12)
    batch = toy_system.batch_of(np.arange(8))
    mesh, sharding = mesh or make_mesh(), sharding or ShardingConfig()
    system = system or toy_system.ToySystem()
    return create_state(system, tx, jax.random.key(0), batch, mesh, sharding, pretrained, average)

  return create


@pytest.fixture
def run(tmp_path) -> Callable[..., tuple[FitResult, str]]:
  """`train` below a fresh folder: run("name", ...)."""
  return lambda name="run", *arguments, **options: toy_system.train(tmp_path / name, *arguments, **options)


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> tuple[pathlib.Path, FitResult, str]:
  """A finished run that nothing interrupted: (its folder, result, what was printed). To be read, not changed."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  return folder, *toy_system.train(folder)
