import jax
import jax.numpy as jnp
import numpy as np

from gasmcast.heads.classify import Classifier
from tests.layers.variables import drawn_variables

X = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)


def test_norm_then_linear():
  classifier = Classifier(classes=3)
  variables = drawn_variables(classifier, X)
  p, x = jax.tree.map(np.asarray, variables["params"]), np.asarray(X)
  normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  normed = normed * p["output_norm"]["scale"] + p["output_norm"]["bias"]
  expected = normed @ p["head"]["kernel"] + p["head"]["bias"]
  np.testing.assert_allclose(jax.jit(classifier.apply)(variables, X), expected, atol=1e-5)


def test_dropout_acts_in_training_only():
  classifier = Classifier(classes=3, dropout=0.5)
  variables = drawn_variables(classifier, X)
  train = jax.jit(lambda key: classifier.apply(variables, X, train=True, rngs={"dropout": key}))
  assert np.abs(train(jax.random.key(0)) - train(jax.random.key(1))).max() > 1e-3
  same = {str(jax.make_jaxpr(Classifier(3, rate).apply)(variables, X)) for rate in (0.0, 0.5)}
  assert len(same) == 1


def test_logits_are_float32_whatever_comes_in():
  logits, _ = jax.eval_shape(Classifier(3).init_with_output, jax.random.key(0), X.astype(jnp.bfloat16))
  assert logits.dtype == jnp.float32
