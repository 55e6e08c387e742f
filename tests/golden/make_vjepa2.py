"""Writes vjepa2.npz: what transformers' VJEPA2Model answers when every weight is generated from its name.

    python tests/golden/make_vjepa2.py

Made with transformers 5.23 and torch 2.13, on a CPU in float32: the last hidden state of the encoder, [B, S * N, D] for
each of `CLIPS`. Input and weights are made again by whoever reads it.
"""

import math
import pathlib
import zlib

import numpy as np

CONFIG = {
  "model_type": "vjepa2",
  "hidden_size": 64,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,  # heads of 32 channels: 10 for each axis, 2 without a rotary code
  "mlp_ratio": 2.3,  # 147.2, rounded down
  "crop_size": 48,
}
CLIPS = {"native": (2, 4, 48, 48, 3), "larger": (1, 2, 64, 64, 3), "wide": (1, 6, 32, 80, 3)}
FILE = pathlib.Path(__file__).with_name("vjepa2.npz")


def frames(name: str) -> np.ndarray:
  """Normalised frames [B, T, H, W, 3]."""
  return np.random.default_rng(7).standard_normal(CLIPS[name]).astype(np.float32)


def tensors() -> dict[str, np.ndarray]:
  """Published name -> weights of the encoder."""
  return {name: _draw(name, shape) for name, shape in _shapes().items()}


def _shapes() -> dict[str, tuple[int, ...]]:
  width, hidden = CONFIG["hidden_size"], int(CONFIG["hidden_size"] * CONFIG["mlp_ratio"])
  shapes = {
    "encoder.embeddings.patch_embeddings.proj.weight": (width, 3, 2, 16, 16),
    "encoder.embeddings.patch_embeddings.proj.bias": (width,),
    "encoder.layernorm.weight": (width,),
    "encoder.layernorm.bias": (width,),
  }
  for i in range(CONFIG["num_hidden_layers"]):
    layer = f"encoder.layer.{i}."
    linear = {f"attention.{name}": (width, width) for name in ("query", "key", "value", "proj")}
    linear |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    for name, shape in linear.items():
      shapes |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
    for norm in ("norm1", "norm2"):
      shapes |= {f"{layer}{norm}.weight": (width,), f"{layer}{norm}.bias": (width,)}
  return shapes


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if len(shape) > 1:
    values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
  elif name.endswith("weight"):
    values = rng.uniform(0.5, 1.5, shape)
  else:
    values = 0.1 * rng.standard_normal(shape)
  return values.astype(np.float32)


def main() -> None:
  import torch
  from transformers import VJEPA2Config, VJEPA2Model

  sizes = {key: value for key, value in CONFIG.items() if key != "model_type"}
  encoder = VJEPA2Model(VJEPA2Config(**sizes)).encoder.eval()
  weights = {name.removeprefix("encoder."): torch.from_numpy(tensor) for name, tensor in tensors().items()}
  encoder.load_state_dict(weights, strict=True)
  outputs = {}
  with torch.no_grad():
    for name in CLIPS:
      pixels = torch.from_numpy(np.moveaxis(frames(name), -1, 2).copy())
      outputs[name] = encoder(pixels).last_hidden_state.numpy()
  np.savez(FILE, **outputs)


if __name__ == "__main__":
  main()
