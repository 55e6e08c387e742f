"""The toy system, and states of it on meshes of 1 and 8 devices."""

import io
from collections.abc import Callable

import jax
import numpy as np
import pytest
from rich.console import Console

from gasmcast.training.loop import FitResult, fit
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

  def create(system=None, mesh=None, sharding=None, pretrained=None) -> TrainState:
    tx, _ = make_optimizer(toy_system.config().optim, steps=12)
    batch = toy_system.batch_of(np.arange(8))
    mesh, sharding = mesh or make_mesh(), sharding or ShardingConfig()
    return create_state(system or toy_system.ToySystem(), tx, jax.random.key(0), batch, mesh, sharding, pretrained)

  return create


@pytest.fixture
def run(tmp_path) -> Callable[..., tuple[FitResult, str]]:
  """`fit` of the toy system in `tmp_path`: (result, what was printed)."""

  def train(workdir="run", batches=toy_system.train_batches, validation=toy_system.validation_batches, **options):
    printed = io.StringIO()
    identity, mesh = options.pop("identity", toy_system.IDENTITY), options.pop("mesh", None)
    result = fit(
      toy_system.ToySystem(),
      batches,
      validation,
      toy_system.config(**options),
      tmp_path / workdir,
      identity,
      mesh=mesh,
      console=Console(file=printed),
    )
    return result, printed.getvalue()

  return train
