"""Parameters of one run as the start of another: what is taken, what may be new, what is refused."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gasmcast.core import rules
from gasmcast.core.errors import WeightsError
from gasmcast.training import warm_start
from gasmcast.training.checkpoint import CHECKSUMS, Checkpoints
from gasmcast.training.warm_start import InitConfig
from tests.training.test_checkpoint import flip_a_bit
from tests.training.toy_system import ToySystem, batch_of

OLD = {
  "params/net/kernel": np.full((4, 8), 1.0, np.float32),
  "params/net/norm/scale": np.full(8, 2.0, np.float32),
  "params/head/kernel": np.full((8, 3), 3.0, np.float32),
  "batch_stats/net/norm/mean": np.full(8, 4.0, np.float32),
}
HEAD_MAY_BE_NEW = (("^head/", True), (".*", False))


@pytest.fixture
def begin(tmp_path):
  """`start` of a system with these shapes, from a file of these arrays."""

  def start(found, shapes, own=None, new=((".*", False),)):
    warm_start.write_tensors(tmp_path / "old.safetensors", found, {})
    abstract = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    config = InitConfig(str(tmp_path / "old.safetensors"), new)
    return warm_start.start(config, rules.unflatten(abstract), rules.unflatten(own or {}))

  return start


def shapes(**changed):
  found = {name: leaf.shape for name, leaf in OLD.items()} | {name: shape for name, shape in changed.items() if shape}
  return {name: shape for name, shape in found.items() if changed.get(name, shape)}


def test_everything_is_taken_where_everything_fits(begin):
  found = begin(OLD, shapes())
  taken = rules.flatten(found.variables)
  assert set(taken) == set(OLD) and all(np.array_equal(taken[name], OLD[name]) for name in OLD)
  assert found.message.endswith("old.safetensors: 64 parameters and 1 batch statistics.")
  other = begin(OLD | {"params/head/kernel": OLD["params/head/kernel"] + 1}, shapes())
  assert len(found.fingerprint) == 64 and other.fingerprint != found.fingerprint


def test_a_head_for_other_classes_is_new(begin):
  wider = shapes(**{"params/head/kernel": (8, 5)})
  with pytest.raises(WeightsError, match=r"1 of another shape: head/kernel \(8, 3\), here \(8, 5\)"):
    begin(OLD, wider)
  found = begin(OLD, wider, new=HEAD_MAY_BE_NEW)
  assert "params/head/kernel" not in rules.flatten(found.variables)
  assert found.message.endswith("40 parameters and 1 batch statistics; new: head (40 parameters).")


def test_a_head_that_fits_is_taken_though_it_may_be_new(begin):
  assert "head" in begin(OLD, shapes(), new=HEAD_MAY_BE_NEW).variables["params"]


def test_everything_else_is_strict_and_listed(begin):
  changed = {"params/net/kernel": (4, 9), "params/head/kernel": None, "params/extra/bias": (2,)}
  with pytest.raises(WeightsError) as error:
    begin(OLD, shapes(**changed))
  assert str(error.value).endswith(
    "old.safetensors': 3 names do not fit. 1 not of this system: head/kernel. 1 of another shape: net/kernel (4, 8), "
    "here (4, 9). 1 missing: extra/bias. Configure the system that these weights are of, or name in config.init.new "
    "what may be new."
  )
  found = begin(OLD, shapes(**changed), new=(("^(head|extra|net/kernel)", True), (".*", False)))
  assert set(rules.flatten(found.variables)) == {"params/net/norm/scale", "batch_stats/net/norm/mean"}


def test_a_long_list_is_cut(begin):
  more = {f"params/block_{i}/kernel": (2,) for i in range(20)}
  with pytest.raises(WeightsError, match=r"20 missing: block_0/kernel, .*block_15/kernel and 12 more\."):
    begin(OLD, shapes() | more)


def test_what_was_frozen_there_comes_from_its_own_weights(begin):
  """A checkpoint holds the statistics of a frozen backbone without its parameters: they are those of its weights."""
  old = OLD | {"batch_stats/backbone/norm/mean": np.full(2, 5.0, np.float32)}
  own = {"params/backbone/norm/scale": np.ones(2), "batch_stats/backbone/norm/mean": np.ones(2)}
  found = begin(old, shapes() | {name: leaf.shape for name, leaf in own.items()}, own)
  assert "backbone" not in found.variables["params"] and "backbone" not in found.variables["batch_stats"]
  assert found.message.endswith("64 parameters and 1 batch statistics; from their own weights: backbone.")
  another = {"params/other/norm/scale": np.ones(3)}  # another backbone: the old one's statistics are of no use
  assert "other" in begin(old, shapes() | {"params/other/norm/scale": (3,)}, another).message


def test_a_backbone_that_was_trained_there_comes_from_there(begin):
  old = OLD | {"params/backbone/kernel": np.full(2, 5.0, np.float32)}
  found = begin(old, shapes() | {"params/backbone/kernel": (2,)}, {"params/backbone/kernel": np.ones(2)})
  np.testing.assert_array_equal(found.variables["params"]["backbone"]["kernel"], 5.0)


def test_weights_of_which_nothing_is_taken_are_refused(begin):
  with pytest.raises(WeightsError, match=r"config.init.new lets all 1 variables be new and none fits"):
    begin(OLD, {"params/other/kernel": (3,)}, new=((".*", True),))


def test_a_file_of_one_backbone_is_told_from_a_system(tmp_path):
  warm_start.write_tensors(tmp_path / "net.safetensors", OLD, {"name": "dinov3_vitb16"})
  with pytest.raises(WeightsError, match=r"holds the backbone dinov3_vitb16, not a whole system.*semantic.weights"):
    warm_start.read(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda path: None, "does not exist; it must be the workdir of a training"),
    (lambda path: path.mkdir(), "is neither the workdir of a training, with its folder checkpoints, one step"),
    (lambda path: path.write_text(""), r"or a .safetensors file"),
  ],
)
def test_what_can_not_be_read_is_refused_before_any_work(tmp_path, make, message):
  make(tmp_path / "weights")
  with pytest.raises(WeightsError, match=message):
    warm_start.require_there(InitConfig(str(tmp_path / "weights")))
  warm_start.require_there(InitConfig(None))


# From a working directory.


def toy_shapes(system=None):
  return jax.eval_shape((system or ToySystem()).init, jax.random.key(0), batch_of(np.arange(8)))


def test_the_best_step_of_a_workdir_is_taken(whole, new_state):
  folder, result, _ = whole
  found, origin = warm_start.read(folder)
  assert origin == f"step {result.best_step} of {folder.absolute()}" or origin == f"step {result.best_step} of {folder}"
  with Checkpoints(folder / "checkpoints") as checkpoints:
    best = checkpoints.restore(new_state(), {}, "best").state
  assert {name for name in found if name.startswith("params/")} == {f"params/{name}" for name in best.trainable}
  for name, leaf in best.trainable.items():
    np.testing.assert_array_equal(found[f"params/{name}"], leaf)
  np.testing.assert_array_equal(found["batch_stats/norm/mean"], best.collections["batch_stats"]["norm"]["mean"])


def test_one_step_can_be_named(whole):
  folder, _, _ = whole
  last, origin = warm_start.read(folder / "checkpoints" / "12")
  assert origin.startswith("step 12 of ")
  best, _ = warm_start.read(folder)
  assert last.keys() == best.keys()


def test_a_run_begins_with_another_ones_parameters(whole, run):
  folder, _, _ = whole
  config = InitConfig(str(folder))
  own = {"params": {"backbone": jax.tree.map(lambda leaf: np.ones(leaf.shape), toy_shapes()["params"]["backbone"])}}
  start = warm_start.start(config, toy_shapes(), own)
  assert "from their own weights: backbone" in start.message
  given = rules.unflatten(rules.flatten(own) | rules.flatten(start.variables))
  result, _ = run("second", pretrained=given, steps=4)
  assert result.status == "finished"


def test_the_average_is_taken_where_a_run_keeps_one(tmp_path, new_state):
  state = new_state(average=True)
  state = state.replace(step=jnp.int32(3), average={name: leaf + 1 for name, leaf in state.average.items()})
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    checkpoints.save(state, {"identity": {}}, 3)
  found, _ = warm_start.read(tmp_path)
  np.testing.assert_array_equal(found["params/head/kernel"], state.trainable["head/kernel"] + 1)


def test_a_run_outlives_its_workdir_in_a_file(whole, tmp_path):
  folder, _, _ = whole
  warm_start.save(folder, tmp_path / "run.safetensors")
  found, origin = warm_start.read(tmp_path / "run.safetensors")
  expected, _ = warm_start.read(folder)
  assert origin == str(tmp_path / "run.safetensors") and found.keys() == expected.keys()
  assert all(np.array_equal(found[name], expected[name]) for name in expected)
  with pytest.raises(WeightsError, match=r"can't be written"):
    warm_start.save(folder, tmp_path / "run.safetensors" / "below.safetensors")


@pytest.mark.reliability
def test_a_damaged_checkpoint_is_no_start(whole, tmp_path):
  folder, result, _ = whole
  shutil.copytree(folder / "checkpoints", tmp_path / "run" / "checkpoints")
  step = tmp_path / "run" / "checkpoints" / str(result.best_step)
  flip_a_bit(step)
  with pytest.raises(
    WeightsError, match=rf"{result.best_step} is damaged, 1 of \d+ files are not as they were written"
  ):
    warm_start.read(tmp_path / "run")
  (step / CHECKSUMS).unlink()
  with pytest.raises(WeightsError, match=r"was never finished \(it has no checksums.json\); name another step of it"):
    warm_start.read(tmp_path / "run")


def test_a_run_without_a_validation_has_no_best_step(tmp_path, new_state):
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    checkpoints.save(dataclasses.replace(new_state(), step=jnp.int32(1)), {"identity": {}}, None)
  with pytest.raises(WeightsError, match=r"has no best step \(steps there: \[1\]\); train until the first validation"):
    warm_start.read(tmp_path)
