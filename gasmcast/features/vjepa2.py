"""V-JEPA 2 video encoder: frames in, tokens of tubelets out. Assran et al., "V-JEPA 2" (2025).

A pre-norm ViT whose tokens are tubelets of 2 frames x 16 x 16 pixels, all of a clip in one attention. There is no class
token and no learned position: rotary codes turn a third of each head's channels by the token's time, a third by its
row, a third by its column, and leave what is over. The predictor of the pretraining is not part of it.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.features.conversion import Rule, linear, linear_rules, norm_rules, patches
from gasmcast.features.frame_patches import require_patches
from gasmcast.features.hub_config import read_values, require_kind, require_values
from gasmcast.features.preprocessing import IMAGENET, Normalisation
from gasmcast.features.vit import Block, Rotate
from gasmcast.layers.dense import Dense

_ROPE_BASE = 10000.0
_HUB_DEFAULTS = {
  "hidden_size": 1024,
  "num_hidden_layers": 24,
  "num_attention_heads": 16,
  "mlp_ratio": 4.0,
  "patch_size": 16,
  "tubelet_size": 2,
  "layer_norm_eps": 1e-6,
  "crop_size": 256,
  "in_chans": 3,
  "hidden_act": "gelu",
  "qkv_bias": True,
}
_HUB_NEEDED = {"in_chans": 3, "hidden_act": "gelu", "qkv_bias": True}


@dataclasses.dataclass(frozen=True)
class VJEPA2Config:
  """The size of the network; the defaults are ViT-L/16.

  Attributes:
    width, depth, heads: of the transformer.
    mlp_ratio: width of the hidden layer of an MLP, in units of `width`, rounded down.
    patch: side of a tubelet in pixels.
    tubelet: frames of a tubelet.
    epsilon: of every LayerNorm.
    image_size: side of the square frames that `preprocessing.prepare` makes.
    positions: whose rows and columns the rotary codes count where frames are not of `image_size` (where they are, all
      is one). "image_size" lays the tokens, in their order, on the grid of a clip of that size, whatever their own:
      the function that Hugging Face transformers computes. "frames" counts on the grid of the frames themselves, as
      the authors' own code does: to be preferred for frames that are not square.
  """

  normalisation: ClassVar[Normalisation] = IMAGENET
  margin: ClassVar[bool] = True

  width: int = 1024
  depth: int = 24
  heads: int = 16
  mlp_ratio: float = 4.0
  patch: int = 16
  tubelet: int = 2
  epsilon: float = 1e-6
  image_size: int = 256
  positions: Literal["image_size", "frames"] = "image_size"

  def __post_init__(self):
    for name in ("width", "depth", "heads", "patch", "tubelet", "image_size"):
      require(getattr(self, name) >= 1, f"motion.{name} = {getattr(self, name)}: it must be at least 1.")
    require(
      self.mlp_width >= 1,
      f"motion.mlp_ratio = {self.mlp_ratio}: of width {self.width} that leaves the MLP no channel; 4 is usual.",
    )
    head_width, rest = divmod(self.width, self.heads)
    require(
      rest == 0 and head_width % 2 == 0 and head_width >= 6,
      f"motion.width = {self.width} and heads = {self.heads}: a head's width must be a whole, even number of at least "
      "6 (rotary codes for time, rows and columns); change one of them.",
    )
    require(
      self.image_size % self.patch == 0,
      f"motion.image_size = {self.image_size} is not a multiple of the patch size {self.patch}.",
    )

  @property
  def clip(self) -> int:
    """Frames of a clip that the network can be tried on; it was trained on 64, and any number of tubelets will do."""
    return 8 * self.tubelet

  @property
  def mlp_width(self) -> int:
    return int(self.width * self.mlp_ratio)

  def check_frames(self, time: int, height: int, width: int) -> None:
    """Raises DataError unless the clip divides into tubelets."""
    if time % self.tubelet:
      raise DataError(
        f"a clip of {time} frames does not divide into tubelets of {self.tubelet} frames; give a multiple of "
        f"{self.tubelet} (to see a single image, repeat it)."
      )
    require_patches(height, width, self.patch)

  def with_hub_config(self, values: Mapping[str, Any]) -> "VJEPA2Config":
    """The sizes that a config.json of the Hugging Face Hub gives; its rates of dropout concern its own training alone.

    Raises:
      WeightsError: a file of another network, or of a variant that is not built here.
    """
    kind = require_kind(values, "vjepa2")
    hub = read_values(values, _HUB_DEFAULTS)
    require_values(kind, hub, _HUB_NEEDED)
    return dataclasses.replace(
      self,
      width=hub["hidden_size"],
      depth=hub["num_hidden_layers"],
      heads=hub["num_attention_heads"],
      mlp_ratio=float(hub["mlp_ratio"]),
      patch=hub["patch_size"],
      tubelet=hub["tubelet_size"],
      epsilon=float(hub["layer_norm_eps"]),
      image_size=hub["crop_size"],
    )


def token_positions(tokens: int, rows: int, columns: int) -> np.ndarray:
  """(time, row, column) of each token in row-major order on a grid [time, rows, columns], int [tokens, 3]."""
  time, place = np.divmod(np.arange(tokens), rows * columns)
  return np.stack([time, *np.divmod(place, columns)], -1)


def rope_angles(positions: np.ndarray, head_width: int) -> np.ndarray:
  """Angles of the rotary codes, from positions [N, 3] to float32 [N, head_width].

  Time, row and column have C channels each, C the largest even number up to a third of the head's width; the channels
  that are left have the angle 0. Within the C channels of an axis the frequencies 1 / 10000^(2i/C), i < C/2, come
  twice in a row (f0 f1 ... f0 f1 ...). `rotate` pairs neighbours, so the two channels of a pair have different angles
  and the code is no rotation: a mistake of the published code that its weights were trained with. (Each frequency
  twice, f0 f0 f1 f1 ..., would be right.)
  """
  share = head_width // 3 // 2 * 2
  frequencies = 1 / np.float32(_ROPE_BASE) ** (np.arange(share // 2, dtype=np.float32) / np.float32(share / 2))
  angles = np.tile(positions.astype(np.float32)[:, :, None] * frequencies, (1, 1, 2)).reshape(len(positions), -1)
  return np.pad(angles, ((0, 0), (0, head_width - 3 * share)))


def rotate(x: Float[Array, "B K N E"], cos: np.ndarray, sin: np.ndarray) -> Float[Array, "B K N E"]:
  """(a, b) -> (a cos - b sin, b cos + a sin) for neighbouring channels, each with the angle of its own place.

  Args:
    x: queries or keys.
    cos: of the angles [N, E].
    sin: likewise, negated for the first channel of each pair.
  """
  swapped = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
  return x * cos + swapped * sin


class VJEPA2(nn.Module):
  """Normalised frames [B, T, H, W, 3] -> "tokens" [B, S, N, D], "grid" [B, S, h, w, D], "segments" [B, S, D], "pooled"
  [B, D], float32, with S = T / 2 tubelets in time and N = h * w of them in space, in row-major order.

  All after the final norm; a segment is the mean of its tokens, "pooled" the mean of all.
  """

  config: VJEPA2Config = VJEPA2Config()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, frames: Float[Array, "B T H W 3"], train: bool = False) -> dict[str, Array]:
    config, (batch, time, height, width, _) = self.config, frames.shape
    config.check_frames(time, height, width)
    segments, rows, columns = time // config.tubelet, height // config.patch, width // config.patch
    x = frames.astype(self.dtype)
    x = x.reshape(batch, segments, config.tubelet, rows, config.patch, columns, config.patch, 3)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, segments * rows * columns, -1)
    x = Dense(config.width, dtype=self.dtype, name="patch_embedding")(x).astype(jnp.float32)
    turn = self._rotary_codes(x.shape[1], rows, columns)
    for i in range(config.depth):
      block = Block(config.heads, config.mlp_width, config.epsilon, dtype=self.dtype, name=f"block_{i}")
      x = block(x, turn)
    x = nn.LayerNorm(config.epsilon, dtype=jnp.float32, name="norm")(x)
    tokens = x.reshape(batch, segments, rows * columns, config.width)
    means = tokens.mean(2)
    grid = x.reshape(batch, segments, rows, columns, config.width)
    return {"tokens": tokens, "grid": grid, "segments": means, "pooled": means.mean(1)}

  def _rotary_codes(self, tokens: int, rows: int, columns: int) -> Rotate:
    config = self.config
    if config.positions == "image_size":
      rows = columns = config.image_size // config.patch
    angles = rope_angles(token_positions(tokens, rows, columns), config.width // config.heads)
    signs = np.tile(np.float32([-1, 1]), angles.shape[1] // 2)
    # made once for all blocks: a clip of 64 frames has tables of 2 MB, which are literals of the compiled program
    return functools.partial(rotate, cos=np.cos(angles), sin=np.sin(angles) * signs)


def _hub_layout() -> tuple[Rule, ...]:
  """Names of VJEPA2Model, and of VJEPA2ForVideoClassification, which puts "vjepa2." before them."""
  encoder, block = r"(?:vjepa2\.)?encoder\.", r"params/block_\1/"
  layer = encoder + r"layer\.(\d+)\."
  rules = [
    Rule(r"(?:vjepa2\.)?predictor\..*"),  # used in pretraining only
    Rule(r"(?:pooler|classifier)\..*"),  # attentive probe of one data set
    *linear_rules(encoder + r"embeddings\.patch_embeddings\.proj", "params/patch_embedding", patches),
    *norm_rules(encoder + r"layernorm", "params/norm"),
    Rule(layer + r"attention\.(query|key|value)\.bias", block + r"attention/\2_bias"),
    *linear_rules(layer + r"attention\.proj", block + "attention/out"),
    *norm_rules(layer + r"norm([12])", block + r"norm\2"),
  ]
  for third, name in enumerate(("query", "key", "value")):
    target = f"{block}attention/qkv_kernel[{third}/3]"
    rules.append(Rule(layer + rf"attention\.{name}\.weight", target, linear))
  for published, ours in (("fc1", "up"), ("fc2", "down")):
    rules += linear_rules(layer + rf"mlp\.{published}", f"{block}mlp/{ours}")
  return tuple(rules)


LAYOUTS = (_hub_layout(),)
