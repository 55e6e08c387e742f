"""The system of GASM-CAST: what is trained, what is lost on masked rows, and what can be looked at."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart, ssv2_gasmcast
from gasmcast.core import rules
from gasmcast.core.config import to_dict
from gasmcast.systems.gasmcast import GasmCastSystem, example_batch, parse_model

CLASSES = ("up", "down", "left", "right")


def _model(**fields):
  values = quickstart.get_config("runlocal").model.to_dict()
  for name, value in fields.items():
    values[name] = values[name] | value
  return parse_model(values)


def _batch(rows=2):
  batch = example_batch(16, 32, rows)
  batch["frames"] = np.random.default_rng(0).integers(0, 256, batch["frames"].shape, np.uint8)
  batch["action"] = np.arange(rows, dtype=np.int32) % len(CLASSES)
  return batch


@pytest.fixture(scope="module")
def system():
  return GasmCastSystem(_model(), CLASSES)


@pytest.fixture(scope="module")
def variables(system):
  return jax.jit(system.init)(jax.random.key(0), _batch())


@pytest.fixture(scope="module")
def outputs(system, variables):
  apply = jax.jit(lambda v, b: system.apply(v, b, train=False, capture=True)[0])
  return jax.device_get(apply(variables, _batch()))


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
  motion = GasmCastSystem(_model(fusion={"streams": "motion"}), CLASSES)
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


def test_metrics_count_each_depth(system):
  right, wrong = jnp.eye(4)[jnp.array([0, 1])], jnp.eye(4)[jnp.array([2, 1])]
  batch = {"action": jnp.array([0, 1]), "ok": jnp.array([True, True])}
  sums = system.metrics({"logits": right, "auxiliary": (wrong, right, right)}, batch)
  numbers = system.summarize(jax.device_get(sums))
  assert (numbers["top1"], numbers["top1_depth_0"], numbers["top1_depth_1"]) == (1.0, 0.5, 1.0)
  masked = system.metrics({"logits": right, "auxiliary": (wrong,)}, batch | {"ok": jnp.array([True, False])})
  assert masked["right_by_depth"][0] == 0 and masked["classification"]["examples"] == 1


def test_frozen_backbones_are_out_of_the_gradient_and_their_statistics_stand_still():
  model = _model(motion={"trainable": False, "norm": "batch"}, semantic={"trainable": False})
  system, batch = GasmCastSystem(model, CLASSES), _batch()
  abstract = jax.eval_shape(system.init, jax.random.key(0), batch)
  trained, frozen = rules.partition(abstract["params"], system.trainable, "model")
  assert {name.split("/")[0] for name in trained} == {"fusion"}
  assert {name.split("/")[0] for name in frozen} == {"semantic", "motion"}
  variables = jax.jit(system.init)(jax.random.key(0), batch)

  @jax.jit
  def step(variables):
    def loss(params):
      rngs = {"dropout": jax.random.key(1)}
      outputs, updated = system.apply(variables | {"params": params}, batch, train=True, rngs=rngs)
      return system.loss(outputs, batch)[0], updated

    return jax.grad(loss, has_aux=True)(variables["params"])

  gradients, updated = step(variables)
  flat = rules.flatten(gradients)
  assert all(not flat[name].any() for name in frozen)
  for part in ("semantic_graph_0", "motion_graph_0", "bcast_1", "pool_motion", "head"):
    assert any(flat[name].any() for name in trained if name.startswith(f"fusion/{part}/")), part
  jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("variant", ["literal", "small", "base", "large", "efficient"])
def test_the_full_system_has_the_published_backbones_and_keeps_the_budget(variant):
  config = ssv2_gasmcast.get_config(variant)
  system = GasmCastSystem(parse_model(config.model.to_dict()), tuple(map(str, range(174))))
  params = jax.eval_shape(system.init, jax.random.key(0), example_batch(16, 224))["params"]
  count = lambda tree: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
  assert count(params["semantic"]) == 85_660_416 - 768  # the published file holds a mask token
  assert count(params["motion"]) == 33_166_272
  auxiliary = sum(count(part) for name, part in params["fusion"].items() if name.startswith("auxiliary"))
  assert auxiliary == 3 * 225_454
  expected = {"literal": 7_208_910, "small": 7_625_294, "base": 14_197_326, "large": 17_879_198}
  total = count(params["fusion"]) - auxiliary
  assert total < 20_000_000
  assert variant == "efficient" or total == expected[variant]


def test_a_configuration_that_went_through_json_is_the_same_model():
  values = quickstart.get_config("runlocal").model
  assert parse_model(json.loads(json.dumps(to_dict(values)))) == parse_model(values.to_dict())
