"""A system of 100 parameters on vectors, with everything that training has to handle: frozen parameters, BatchNorm
statistics, dropout, rows that are not ok. Its batches are a function of the step."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator, Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from gasmcast.core.rng import generator
from gasmcast.training.config import TrainConfig
from gasmcast.training.loop import FitResult, fit
from gasmcast.training.optim import OptimConfig

EXAMPLES, WIDTH, CLASSES = 64, 6, 3
_RANDOM = generator(0, "toy")
VECTORS = _RANDOM.normal(size=(EXAMPLES, WIDTH)).astype(np.float32)
LABELS = np.argmax(VECTORS[:, :CLASSES], axis=1).astype(np.int32)
IDENTITY = {"config": {"model": {"width": 8}}, "data": "toy-1"}


class Network(nn.Module):
  """Dense (frozen) -> BatchNorm -> dropout -> Dense."""

  @nn.compact
  def __call__(self, x, train):
    x = nn.relu(nn.Dense(8, name="backbone")(x))
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
    x = nn.Dropout(0.1, deterministic=not train)(x)
    return nn.Dense(CLASSES, name="head")(x)


@dataclasses.dataclass(frozen=True)
class ToySystem:
  """Classifies vectors; `trainable` is a field so that tests can vary it."""

  trainable: tuple[tuple[str, bool], ...] = (("^backbone/", False), (".*", True))

  def init(self, rng, batch):
    return dict(Network().init(rng, batch["vector"], train=False))

  def apply(self, variables, batch, *, train, rngs=None, capture=False):
    mutable = ["batch_stats"] if train else []
    logits, updated = Network().apply(variables, batch["vector"], train, rngs=rngs, mutable=mutable)
    return {"logits": logits}, dict(updated)

  def mix(self, batch, rng):
    return batch

  def loss(self, outputs, batch):
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], batch["action"])
    loss = jnp.sum(jnp.where(batch["ok"], losses, 0.0)) / jnp.maximum(jnp.sum(batch["ok"]), 1)
    return loss, {"action": loss}

  def metrics(self, outputs, batch):
    right = jnp.argmax(outputs["logits"], axis=-1) == batch["action"]
    return {"examples": jnp.sum(batch["ok"]), "top1": jnp.sum(right & batch["ok"])}

  def summarize(self, sums) -> Mapping[str, float]:
    return {"examples": float(sums["examples"]), "top1": float(sums["top1"] / sums["examples"])}


def batch_of(index: np.ndarray) -> dict[str, np.ndarray]:
  """The rows `index` of the toy data; -1 gives a row that only fills up the batch."""
  present = index >= 0
  return {
    "vector": np.where(present[:, None], VECTORS[index], 0).astype(np.float32),
    "action": np.where(present, LABELS[index], 0).astype(np.int32),
    "index": index.astype(np.int32),
    "ok": present,
  }


def train_batches(start: int, rows: int = 8) -> Iterator[dict[str, np.ndarray]]:
  """Endless batches from step `start` on; batch k is the same whatever the start."""
  while True:
    yield batch_of((np.arange(rows) + start * rows) % EXAMPLES)
    start += 1


def validation_batches(examples: int = 20, rows: int = 8) -> Iterator[dict[str, np.ndarray]]:
  """`examples` rows in batches of `rows`, the last filled up."""
  for first in range(0, examples, rows):
    index = np.arange(first, first + rows)
    yield batch_of(np.where(index < examples, index, -1))


def config(**fields) -> TrainConfig:
  """12 steps with everything every 4 steps."""
  defaults = {"steps": 12, "log_every": 2, "validate_every": 4, "checkpoint_every": 4}
  return TrainConfig(**(defaults | {"optim": OptimConfig(lr=0.03, warmup_steps=2)} | fields))


def train(
  workdir: pathlib.Path,
  batches=train_batches,
  validation=validation_batches,
  identity=None,
  pretrained=None,
  system=None,
  **fields,
) -> tuple[FitResult, str]:
  """`fit` of the toy system with these fields of the configuration: (result, what was printed)."""
  console, system = Console(file=io.StringIO()), ToySystem() if system is None else system
  identity = IDENTITY if identity is None else identity
  result = fit(system, batches, validation, config(**fields), workdir, identity, pretrained=pretrained, console=console)
  return result, console.file.getvalue()


def losses(workdir: pathlib.Path) -> list[float]:
  """Of the logged train steps."""
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [line["loss"] for line in lines if line["split"] == "train"]
