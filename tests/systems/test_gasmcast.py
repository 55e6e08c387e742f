"""The system of GASM-CAST: what is lost on masked and mixed rows, what is counted, and what can be looked at."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from gasmcast.core.config import to_dict
from gasmcast.core.errors import ConfigError
from gasmcast.features.compressed import expand
from gasmcast.systems.class_weights import class_weights
from gasmcast.systems.gasmcast import GasmCastSystem
from gasmcast.systems.gasmcast_config import parse_model
from gasmcast.systems.mixing import MixingConfig
from tests.systems.tiny_gasmcast import CLASSES, make_batch, make_model


@pytest.fixture(scope="module")
def system():
  return GasmCastSystem(make_model(), CLASSES)


@pytest.fixture(scope="module")
def variables(system):
  return jax.jit(system.init)(jax.random.key(0), make_batch())


@pytest.fixture(scope="module")
def outputs(system, variables):
  apply = jax.jit(lambda v, b: system.apply(v, b, train=False, capture=True)[0])
  return jax.device_get(apply(variables, make_batch()))


def test_outputs_by_name(outputs):
  assert outputs["logits"].shape == (2, 4)
  assert [logits.shape for logits in outputs["auxiliary"]] == [(2, 4)] * 3


def test_where_it_looked(system, outputs):
  explained = system.explain(outputs)
  assert {name: leaf.shape for name, leaf in explained.items()} == {
    "patches": (2, 8, 2, 2),  # a 4 x 4 grid after one merge
    "segments": (2, 8),
    "layer 1": (2, 8, 8),
    "layer 2": (2, 8, 8),
    "layer 3": (2, 8, 8),
  }
  np.testing.assert_allclose(explained["patches"].sum((1, 2, 3)), 1, rtol=1e-5)
  np.testing.assert_allclose(explained["layer 2"].sum(-1), 1, rtol=1e-5)
  far = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) > 1
  assert (explained["layer 1"][:, far] == 0).all()  # window 1
  assert (explained["layer 3"] > 0).all()  # window 7


def test_a_single_stream_has_nothing_to_explain():
  motion = GasmCastSystem(make_model(fusion={"streams": "motion"}), CLASSES)
  outputs = {"intermediates": {"attention": {"pool_motion": np.ones((1, 4, 8))}}}
  assert motion.explain(outputs) == {}


def test_the_loss_is_the_mean_over_readable_rows(system):
  """Two rows by hand: uniform scores cost log 4, whatever the smoothing; a masked row costs nothing."""
  logits = jnp.array([[0.0, 0, 0, 0], [9.0, 0, 0, 0]])
  batch = {"action": jnp.array([1, 0]), "ok": jnp.array([True, False])}
  loss, parts = system.loss({"logits": logits}, batch)
  np.testing.assert_allclose(loss, np.log(4), rtol=1e-6)
  assert set(parts) == {"classification"}
  loss, parts = system.loss({"logits": logits, "auxiliary": (logits, logits)}, batch)
  np.testing.assert_allclose(loss, 1.4 * np.log(4), rtol=1e-6)
  np.testing.assert_allclose(parts["auxiliary_1"], 0.2 * np.log(4), rtol=1e-6)
  loss, _ = system.loss({"logits": logits}, batch | {"ok": jnp.array([False, False])})
  assert loss == 0


def test_label_smoothing_by_hand(system):
  """Target 0.925 for the own class and 0.025 for each other: 0.1 spread over 4 classes."""
  logits = jnp.array([[2.0, 0, 0, 0]])
  log_z = np.log(np.exp(2) + 3)
  loss, _ = system.loss({"logits": logits}, {"action": jnp.array([0]), "ok": jnp.array([True])})
  np.testing.assert_allclose(loss, log_z - 0.925 * 2, rtol=1e-6)


def _weighted(kind="inverse", smoothing=0.0, counts=(6, 2, 0, 0)):
  model = dataclasses.replace(make_model(), class_weights=kind, label_smoothing=smoothing)
  return GasmCastSystem(model, CLASSES, counts)


def test_weights_of_classes_by_hand():
  """6 and 2 examples weigh 8 / 12 and 8 / 4; uniform scores cost log 4 a row. A row that is not ok counts nowhere."""
  batch = {"action": jnp.array([0, 1, 1]), "ok": jnp.array([True, True, False])}
  loss, _ = _weighted().loss({"logits": jnp.zeros((3, 4))}, batch)
  np.testing.assert_allclose(loss, np.log(4) * (8 / 12 + 8 / 4) / 2, rtol=1e-6)


def test_weights_without_counts_are_refused():
  batch = {"action": jnp.array([0]), "ok": jnp.array([True])}
  with pytest.raises(ConfigError, match="config.model.class_weights = 'inverse' needs the number of examples"):
    _weighted(counts=()).loss({"logits": jnp.zeros((1, 4))}, batch)


@pytest.mark.torch
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_and_smoothing_are_those_of_pytorch(smoothing):
  """Row by row; and as its mean over a batch in which the classes are as frequent as in training."""
  torch = pytest.importorskip("torch", reason="compares with PyTorch")
  counts = (5, 2, 1, 4)
  labels = np.repeat(range(4), counts)
  logits = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
  system = _weighted("effective", smoothing, counts)
  weight = torch.tensor(class_weights(counts, "effective", system.config.class_weights_beta))
  entropy = lambda reduction: torch.nn.CrossEntropyLoss(weight, reduction=reduction, label_smoothing=smoothing)
  rows = entropy("none")(torch.tensor(logits), torch.tensor(labels)).numpy()
  for row in range(12):
    batch = {"action": jnp.array(labels[row : row + 1]), "ok": jnp.array([True])}
    np.testing.assert_allclose(system.loss({"logits": logits[row : row + 1]}, batch)[0], rows[row], rtol=1e-5)
  loss, _ = system.loss({"logits": logits}, {"action": labels, "ok": jnp.ones(12, bool)})
  mean = entropy("mean")(torch.tensor(logits), torch.tensor(labels))
  np.testing.assert_allclose(loss, mean.numpy(), rtol=1e-5)


@pytest.mark.torch
def test_soft_targets_are_those_of_pytorch():
  """Class probabilities as targets, smoothed and weighted; there PyTorch divides by the number of rows too."""
  torch = pytest.importorskip("torch", reason="compares with PyTorch")
  logits = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
  target = np.array([[0.3, 0.7, 0, 0], [0, 0, 1, 0]], np.float32)
  weight = torch.tensor(class_weights((6, 2, 0, 0), "inverse", 0.9))
  entropy = torch.nn.CrossEntropyLoss(weight, label_smoothing=0.1)
  batch = {"action": jnp.array([1, 2]), "ok": jnp.ones(2, bool), "target": jnp.array(target)}
  loss, _ = _weighted(smoothing=0.1).loss({"logits": logits}, batch)
  np.testing.assert_allclose(loss, entropy(torch.tensor(logits), torch.tensor(target)).numpy(), rtol=1e-5)


def _mixing(apart=(), **fields):
  return GasmCastSystem(dataclasses.replace(make_model(), mixing=MixingConfig(**fields)), CLASSES, apart=apart)


def test_without_mixing_a_batch_is_the_very_same(system):
  batch = make_batch()
  assert system.mix(batch, jax.random.key(0)) is batch
  assert _mixing(mixup=1.0, probability=0.0).mix(batch, jax.random.key(0)) is batch


def test_a_mixed_batch_keeps_its_types_and_says_the_shares_of_the_classes():
  batch = make_batch(4) | {"ok": np.array([True, True, True, False])}
  mix = jax.jit(_mixing(((0, 1),), mixup=1.0, cutmix=1.0).mix)
  mixed = jax.device_get(mix(batch, jax.random.key(0)))
  assert set(mixed) == {*batch, "target"} and mixed["frames"].dtype == np.uint8
  for name in ("ok", "index", "action"):
    np.testing.assert_array_equal(mixed[name], batch[name])
  np.testing.assert_allclose(mixed["target"].sum(1), 1, rtol=1e-6)
  assert mixed["target"][0, 1] == mixed["target"][1, 0] == 0  # kept apart
  assert (mixed["target"][:3, 3] == 0).all() and mixed["target"][3].tolist() == [0, 0, 0, 1]  # not ok
  assert (mixed["frames"][3] == batch["frames"][3]).all() and (mixed["frames"][0] != batch["frames"][0]).any()


def test_stored_features_are_mixed_as_float32_whatever_their_form():
  """int8 with scales, and bfloat16; the network reads what comes out."""
  rng = np.random.default_rng(0)
  semantic = rng.integers(-127, 128, (2, 8, 16, 8), np.int8)
  scale = np.full((2, 8, 16, 1), 0.5, np.float16)
  motion = jnp.asarray(rng.normal(size=(2, 8, 8)), jnp.bfloat16)
  batch = {"semantic": semantic, "semantic_scale": scale, "motion": motion}
  batch |= {"ok": np.ones(2, bool), "index": np.arange(2), "action": np.array([0, 3])}
  mixed = _mixing(mixup=1.0).mix(batch, jax.random.key(0))
  share = np.asarray(mixed["target"])[[0, 1], [0, 3]]
  for name, dense in (("semantic", 0.5 * semantic.astype(np.float32)), ("motion", np.asarray(motion, np.float32))):
    own = share.reshape(2, *(1,) * (dense.ndim - 1))
    assert mixed[name].dtype == jnp.float32
    np.testing.assert_allclose(expand(mixed, name), own * dense + (1 - own) * dense[::-1], rtol=1e-5, atol=1e-5)
  with pytest.raises(ConfigError, match="the batch holds stored features, which have no pixels"):
    _mixing(cutmix=1.0).mix(batch, jax.random.key(0))


def test_the_label_of_a_mixed_row_is_the_class_with_the_larger_share(system):
  """Row 0 is mostly class 2, row 1 half and half, row 2 its own."""
  target = jnp.array([[0.4, 0, 0.6, 0], [0, 0.5, 0, 0.5], [0, 0, 1, 0]])
  batch = {"action": jnp.array([0, 3, 2]), "ok": jnp.ones(3, bool), "target": target}
  logits = jnp.eye(4)[jnp.array([2, 1, 0])]
  sums = system.metrics({"logits": logits, "auxiliary": (logits,)}, batch)
  assert system.summarize(jax.device_get(sums))["top1"] == pytest.approx(2 / 3)
  assert sums["right_by_depth"] == [2]
  loss, _ = system.loss({"logits": jnp.zeros((3, 4))}, batch)
  np.testing.assert_allclose(loss, np.log(4), rtol=1e-6)


def test_metrics_count_each_depth(system):
  right, wrong = jnp.eye(4)[jnp.array([0, 1])], jnp.eye(4)[jnp.array([2, 1])]
  batch = {"action": jnp.array([0, 1]), "ok": jnp.array([True, True])}
  sums = system.metrics({"logits": right, "auxiliary": (wrong, right, right)}, batch)
  numbers = system.summarize(jax.device_get(sums))
  assert (numbers["top1"], numbers["top1_depth_0"], numbers["top1_depth_1"]) == (1.0, 0.5, 1.0)
  masked = system.metrics({"logits": right, "auxiliary": (wrong,)}, batch | {"ok": jnp.array([True, False])})
  assert masked["right_by_depth"][0] == 0 and masked["classification"]["examples"] == 1


def test_a_configuration_that_went_through_json_is_the_same_model():
  values = quickstart.get_config("runlocal").model
  assert parse_model(json.loads(json.dumps(to_dict(values)))) == parse_model(values.to_dict())
