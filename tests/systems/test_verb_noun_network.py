"""The network of verbs and nouns: its table of parts, its variants, what stays frozen, and what it refuses."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common, epic_verb_noun
from gasmcast.core.errors import ConfigError
from gasmcast.core.rules import flatten, partition, unflatten
from gasmcast.systems.verb_noun_network import CrossAttentionActionModel, abstract_variables, parse_model, trainable

RESNET = {"stem": 4, "widths": (4, 4, 8, 8), "blocks": (1, 1, 1, 1), "block": "basic", "image_size": 32}
SIZES = {"frames": 3, "verbs": 4, "nouns": 5, "heads": 2, "temporal_hidden": 12}
SIZES |= {"width": 6, "cross_hidden": 10, "hidden": 7}
RANDOM = np.random.default_rng(0)
FRAMES = RANDOM.integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
VECTORS = RANDOM.normal(size=(2, 3, 8)).astype(np.float32)
HEADS = ("verb_classifier", "noun_classifier")


def tiny(**fields):
  semantic = common.stream("resnet50", trainable=True, frozen_stages=2, **RESNET).to_dict()
  return parse_model({"semantic": semantic, **SIZES, **fields})


def drawn(config):
  """Variables that are nowhere at a special point, running statistics included."""
  rng = np.random.default_rng(1)
  flat = flatten(abstract_variables(config))
  kind = {"scale": (1.0, 0.2), "var": (1.0, 0.1), "kernel": (0.0, 0.5)}
  draw = lambda name, leaf: jnp.float32(rng.normal(*kind.get(name.rsplit("/", 1)[-1], (0.0, 0.3)), leaf.shape))
  return unflatten({name: draw(name, leaf) for name, leaf in flat.items()})


def run(config, clips, variables=None, **options):
  net = CrossAttentionActionModel(config)
  variables = drawn(config) if variables is None else variables
  return jax.jit(lambda variables, clips: net.apply(variables, clips, **options))(variables, clips)


def parts(tree):
  counted = {}
  for name, leaf in flatten(tree).items():
    levels = name.split("/")
    part = "/".join(levels[: 2 if levels[0] == "temporal" else 1])
    counted[part] = counted.get(part, 0) + math.prod(leaf.shape)
  return counted


class TestCounts:
  @staticmethod
  def counts(argument):
    """(parameters of each part, trainable, frozen, buffers)."""
    config = parse_model(epic_verb_noun.get_config(argument).model.to_dict())
    variables = abstract_variables(config)
    split = partition(variables["params"], trainable(config), "verb_noun")
    sums = [sum(math.prod(leaf.shape) for leaf in leaves.values()) for leaves in split]
    return parts(variables["params"]), *sums, sum(parts(variables.get("batch_stats", {})).values())

  def test_cross_task_part_by_part(self):
    counted, trained, frozen, buffers = self.counts("")
    assert counted == {
      "semantic": 23_508_032,
      "temporal/positions": 8 * 2048,
      "temporal/layer_0": 50_358_272,
      "temporal/layer_1": 50_358_272,
      "verb_branch": 2_100_224,
      "noun_branch": 2_100_224,
      "cross_task": 16_795_648,
      "verb_classifier": 574_561,
      "noun_classifier": 678_700,
    }
    assert 2 * 50_358_272 == 100_716_544 and 2 * 2_100_224 == 4_200_448 and 574_561 + 678_700 == 1_253_261
    assert 23_508_032 + 16_384 + 100_716_544 + 4_200_448 + 16_795_648 + 1_253_261 == 146_490_317
    assert sum(counted.values()) == trained + frozen == 146_490_317
    assert (trained, frozen, buffers) == (145_045_389, 1_444_928, 53_120)

  def test_independent_heads(self):
    """2048 -> 1024 -> C behind the transformer."""
    counted, trained, frozen, _ = self.counts("independent")
    heads = [2048 * 1024 + 1024 + 1024 * classes + classes for classes in (97, 300)]
    assert [counted.pop(name) for name in HEADS] == heads
    assert set(counted) == {"semantic", "temporal/positions", "temporal/layer_0", "temporal/layer_1"}
    assert trained + frozen == 23_508_032 + 16_384 + 100_716_544 + sum(heads) == 128_844_237
    assert frozen == 1_444_928

  def test_baseline(self):
    """2048 -> 512 -> C behind the mean of the backbone's features."""
    counted, trained, frozen, _ = self.counts("baseline")
    heads = [2048 * 512 + 512 + 512 * classes + classes for classes in (97, 300)]
    assert [counted.pop(name) for name in HEADS] == heads and set(counted) == {"semantic"}
    assert trained + frozen == 23_508_032 + sum(heads) == 25_809_869

  @pytest.mark.parametrize(
    ("variant", "total"), [("cross_task", 146_490_317), ("independent", 128_844_237), ("baseline", 25_809_869)]
  )
  def test_on_features_the_backbone_is_missing(self, variant, total):
    counted, trained, frozen, buffers = self.counts(f"{variant},tokens=none")
    assert "semantic" not in counted and (trained, frozen, buffers) == (total - 23_508_032, 0, 0)


@pytest.mark.parametrize("variant", ["cross_task", "independent", "baseline"])
@pytest.mark.parametrize("tokens", ["frames", "none"])
def test_shapes(variant, tokens):
  clips = FRAMES if tokens == "frames" else VECTORS
  net = CrossAttentionActionModel(tiny(variant=variant, tokens=tokens, dtype="bfloat16"))
  outputs, _ = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, capture=True), clips)
  attention = {} if variant == "baseline" else {"temporal/layer_0": (2, 2, 3, 3), "temporal/layer_1": (2, 2, 3, 3)}
  seen = {"frames": (2, 3, 8)}
  if variant == "cross_task":
    attention |= {"cross_task/verb": (2, 2, 3, 3), "cross_task/noun": (2, 2, 3, 3)}
    seen |= {"verb": (2, 3, 6), "noun": (2, 3, 6)}
  captured = outputs.pop("intermediates")
  assert {name: leaf.shape for name, leaf in flatten(captured["attention"]).items()} == attention
  assert {name: leaf.shape for name, leaf in captured["tokens"].items()} == seen
  assert {name: (leaf.shape, leaf.dtype) for name, leaf in outputs.items()} == {
    "verb": ((2, 4), jnp.float32),
    "noun": ((2, 5), jnp.float32),
  }


def test_frames_become_the_vectors_that_the_model_on_features_takes():
  """The model on frames is the backbone and the model on features, with the same parameters."""
  config = tiny()
  variables = drawn(config)
  whole = run(config, FRAMES, variables, capture=True)
  vectors = whole["intermediates"]["tokens"]["frames"]
  features = {"params": {name: part for name, part in variables["params"].items() if name != "semantic"}}
  again = run(tiny(tokens="none"), vectors, features)
  for task in ("verb", "noun"):
    np.testing.assert_allclose(again[task], whole[task], rtol=1e-4, atol=1e-4)
  assert set(run(config, FRAMES, variables)) == {"verb", "noun"}


@pytest.mark.parametrize(("variant", "ordered"), [("cross_task", True), ("independent", True), ("baseline", False)])
def test_the_order_of_frames_matters_unless_they_are_averaged_at_once(variant, ordered):
  config = tiny(variant=variant, tokens="none")
  there, back = run(config, VECTORS), run(config, VECTORS[:, ::-1])
  difference = max(np.abs(there[task] - back[task]).max() for task in there)
  assert difference > 1e-2 if ordered else difference < 1e-4


@pytest.mark.parametrize(("task", "other"), [("verb", "noun"), ("noun", "verb")])
def test_each_task_hears_the_other(task, other):
  config = tiny(tokens="none")
  variables = drawn(config)
  changed = jax.tree.map(lambda leaf: leaf, variables)
  changed["params"][f"{other}_branch"] = jax.tree.map(lambda leaf: leaf + 0.5, changed["params"][f"{other}_branch"])
  assert np.abs(run(config, VECTORS, changed)[task] - run(config, VECTORS, variables)[task]).max() > 1e-3


@pytest.fixture(scope="module")
def trained():
  """(variables, gradients, statistics after) of a step of training on frames, without dropout."""
  config = tiny(dropout=0.0, temporal_dropout=0.0, drop_path=0.0)
  net, variables = CrossAttentionActionModel(config), drawn(config)

  def loss(params):
    outputs, state = net.apply({**variables, "params": params}, FRAMES, True, mutable=["batch_stats"])
    return sum((outputs[task] ** 2).sum() for task in outputs), state["batch_stats"]

  gradients, statistics = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  return variables, flatten(gradients), flatten(statistics)


def test_what_the_rules_freeze_gets_no_gradient_and_everything_else_does(trained):
  """A key's bias is the exception: it adds the same to all logits of a query."""
  variables, gradients, _ = trained
  learning, frozen = partition(variables["params"], trainable(tiny()), "verb_noun")
  assert {name.split("/")[1] for name in frozen} == {"stem", "layer1_0", "layer2_0"}
  assert all(name.startswith("semantic/") for name in frozen)
  for name in frozen:
    assert not np.any(gradients[name]), name
  for name in learning:
    assert np.abs(gradients[name]).max() > 1e-5 or name.endswith("key/bias"), name
  for task in ("verb", "noun"):
    assert np.any(gradients[f"cross_task/{task}_attention/query/kernel"])
    assert np.any(gradients[f"cross_task/{task}_attention/key/kernel"])


def test_frozen_batch_norms_keep_their_statistics_in_training(trained):
  variables, _, after = trained
  for name, before in flatten(variables["batch_stats"]).items():
    is_frozen = re.match(r"semantic/(stem|layer[12]_)", name) is not None
    assert np.array_equal(after[name], before) == is_frozen, name


def test_a_backbone_that_is_not_trained_stands_still_as_a_whole():
  semantic = common.stream("resnet50", **RESNET).to_dict()
  config = tiny(semantic=semantic)
  variables = drawn(config)
  _, frozen = partition(variables["params"], trainable(config), "verb_noun")
  assert set(unflatten(frozen)) == {"semantic"} and set(unflatten(frozen)["semantic"]) == set(
    variables["params"]["semantic"]
  )
  net, key = CrossAttentionActionModel(config), jax.random.key(0)
  _, state = jax.jit(lambda v: net.apply(v, FRAMES, True, rngs={"dropout": key}, mutable=["batch_stats"]))(variables)
  before, after = flatten(variables["batch_stats"]), flatten(state["batch_stats"])
  assert all(np.array_equal(after[name], leaf) for name, leaf in before.items())


@pytest.mark.parametrize("rate", ["dropout", "temporal_dropout", "drop_path"])
def test_every_rate_acts_in_training_only(rate):
  none = {"dropout": 0.0, "temporal_dropout": 0.0, "drop_path": 0.0}
  config, plain = tiny(tokens="none", **none | {rate: 0.5}), tiny(tokens="none", **none)
  net, variables = CrossAttentionActionModel(config), drawn(config)
  same = {str(jax.make_jaxpr(CrossAttentionActionModel(one).apply)(variables, VECTORS)) for one in (config, plain)}
  assert len(same) == 1
  step = jax.jit(lambda key: net.apply(variables, VECTORS, True, rngs={"dropout": key})["verb"])
  assert len({step(jax.random.key(seed)).tobytes() for seed in range(4)}) > 1


@pytest.mark.parametrize(
  ("fields", "shape", "message"),
  [
    ({}, (2, 3, 8), "tokens = 'frames' takes frames [B, T, H, W, 3]; these clips have the shape [2, 3, 8]."),
    ({"tokens": "none"}, (2, 3, 32, 32, 3), "tokens = 'none' takes vectors [B, T, D]; these clips have the shape"),
    ({"tokens": "none"}, (2, 4, 8), "clips of 4 frames and config.model.frames = 3: there is one learned position"),
    ({"tokens": "none"}, (2, 3, 9), "heads = 2 does not divide the width 9 of the frames; choose a divisor of it."),
  ],
)
def test_other_clips_are_refused(fields, shape, message):
  net = CrossAttentionActionModel(tiny(**fields))
  with pytest.raises(ConfigError, match=re.escape(message)):
    jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"variant": "lstm"}, "config.model.variant = 'lstm' is not one of 'cross_task', 'independent', 'baseline'."),
    ({"tokens": "resnet"}, "config.model.tokens = 'resnet' is not one of 'frames', 'none'."),
    ({"temporal_layer": 2}, "config.model.temporal_layer is not a field; did you mean 'temporal_layers'?"),
    ({"heads": 4}, "config.model: heads = 4 does not divide the width 6 of the branches; choose a divisor of it."),
    ({"width": -6}, "config.model: width = -6: use 1 or more."),
    ({"verbs": 0}, "config.model: verbs = 0: use 1 or more."),
    ({"frames": 1}, "config.model: frames = 1: attention over one frame has a single key, its softmax is 1 and"),
    ({"frames": 0, "variant": "baseline"}, "config.model: frames = 0: use 1 or more."),
    ({"dropout": 1.0}, "config.model: dropout = 1.0 is a probability; use a number from 0 to below 1."),
    ({"drop_path": -0.1}, "config.model: drop_path = -0.1 is a probability; use a number from 0 to below 1."),
    ({"max_trainable": -1}, "config.model: max_trainable = -1 is negative; use 0 for no budget."),
    ({"semantic": {"name": "r3d_18"}}, "config.model.semantic.name = 'r3d_18' is no semantic backbone; use one of"),
    ({"semantic": {"name": "resnet50", "frozen": 2}}, "config.model.semantic.frozen is not a field; did you mean"),
  ],
)
def test_impossible_configurations_are_refused_in_one_line(fields, message):
  with pytest.raises(ConfigError, match=re.escape(message)) as raised:
    tiny(**fields)
  assert "\n" not in str(raised.value)


def test_heads_are_free_of_the_branches_where_there_are_none():
  assert tiny(variant="independent", width=7, heads=2).width == 7
