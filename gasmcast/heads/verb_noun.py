"""Verb and noun of an action: a branch of each from shared frames, attention between the branches, and their scores.

The two tasks are called "verb" and "noun" everywhere: in labels, parameters and outputs.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.layers.attention import MultiHeadAttention
from gasmcast.layers.dense import Dense
from gasmcast.layers.drop_path import DropPath
from gasmcast.layers.mlp import MLP

TASKS = ("verb", "noun")


class TaskBranch(nn.Module):
  """What each frame says of one task: Linear, LayerNorm, exact GELU, dropout, [B, T, D] -> [B, T, width].

  Attributes:
    width: of what comes out.
    dropout: rate, in training, from the random stream "dropout".
    dtype: of the computation; the norm is float32.
  """

  width: int
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B T D"], train: bool = False) -> Float[Array, "B T E"]:
    x = nn.LayerNorm(dtype=jnp.float32, name="norm")(Dense(self.width, dtype=self.dtype, name="linear")(x))
    return nn.Dropout(self.dropout, name="drop")(nn.gelu(x, approximate=False), deterministic=not train)


class CrossTaskAttention(nn.Module):
  """The frames of each task look at those of the other, both directions from the state that came in:

      verb <- verb + FFN(verb + attend(queries verb, sources noun))
      noun <- noun + FFN(noun + attend(queries noun, sources verb))

  The FFN is LayerNorm, Linear, GELU, Linear. Its norm stands inside the branch, so that the formulas hold as they are
  and each task keeps its own state whatever the other says; the queries and sources come from branches that have a
  norm of their own.

  Attributes:
    heads: K, divides the width of the tasks.
    hidden: width inside the FFN.
    drop_path: probability of dropping what a task learns from the other, of a clip, in training.
    dtype: of the computation; norms are float32.
  """

  heads: int
  hidden: int
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, verb: Float[Array, "B T D"], noun: Float[Array, "B T D"], train: bool = False, capture: bool = False
  ) -> tuple[Float[Array, "B T D"], Float[Array, "B T D"], dict[str, Array]]:
    """Both tasks refined; with `capture` the weights "verb" and "noun" [B, K, T, T] with which the frames of a task
    look at those of the other."""
    refined_verb, verb_weights = self._refine("verb", verb, noun, train, capture)
    refined_noun, noun_weights = self._refine("noun", noun, verb, train, capture)
    return refined_verb, refined_noun, {"verb": verb_weights, "noun": noun_weights} if capture else {}

  def _refine(self, task: str, x: Array, other: Array, train: bool, capture: bool) -> tuple[Array, Array | None]:
    width = x.shape[-1]
    attention = MultiHeadAttention(self.heads, width, width, self.dtype, name=f"{task}_attention")
    attended, weights = attention(x, other, capture=capture)
    y = nn.LayerNorm(dtype=jnp.float32, name=f"{task}_norm")(x + attended)
    y = MLP(self.hidden, self.dtype, name=f"{task}_ffn")(y)
    return x + DropPath(self.drop_path, name=f"{task}_drop")(y, train), weights


class TaskClassifier(nn.Module):
  """Linear "hidden", exact GELU, dropout, Linear "head": [B, D] -> logits [B, C] in float32.

  Attributes:
    classes: C.
    hidden: width between the two.
    dropout: rate, in training, from the random stream "dropout".
    dtype: of the computation of the first one.
  """

  classes: int
  hidden: int
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "B D"], train: bool = False) -> Float[Array, "B C"]:
    x = nn.gelu(Dense(self.hidden, dtype=self.dtype, name="hidden")(x), approximate=False)
    return Dense(self.classes, name="head")(nn.Dropout(self.dropout, name="drop")(x, deterministic=not train))
