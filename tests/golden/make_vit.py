"""Writes vit.npz: what transformers' DINOv3 and DINOv2 answer when every weight is generated from its name.

    python tests/golden/make_vit.py

Made with transformers 5.23 and torch 2.13, on a CPU in float32. For each of `MODELS`: the names and shapes of the
tensors in its file as JSON, and for each of `CLIPS` the last hidden state, class token first, [B, T, 1 + R + N, D].
Input and weights are made again by whoever reads it.
"""

import json
import math
import pathlib
import tempfile
import zlib

import numpy as np

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_DINOV3 = {"model_type": "dinov3_vit", **_SIZES, "intermediate_size": 48, "patch_size": 8, "num_register_tokens": 3}
_DINOV2 = {**_SIZES, "mlp_ratio": 2, "patch_size": 7, "image_size": 35}  # position embeddings of 5 x 5 patches
MODELS = {
  "dinov3": _DINOV3 | {"hidden_act": "gelu", "use_gated_mlp": False},
  "dinov3_gated": _DINOV3 | {"hidden_act": "silu", "use_gated_mlp": True},
  "dinov2": {"model_type": "dinov2", **_DINOV2},
  "dinov2_reg": {"model_type": "dinov2_with_registers", **_DINOV2, "num_register_tokens": 3},
}
CLIPS = {"native": (5, 5), "smaller": (3, 3), "wide": (2, 8)}  # rows and columns of patches
FILE = pathlib.Path(__file__).with_name("vit.npz")


def frames(model: str, clip: str) -> np.ndarray:
  """Normalised frames [1, 2, H, W, 3]."""
  rows, columns = CLIPS[clip]
  patch = MODELS[model]["patch_size"]
  shape = (1, 2, rows * patch, columns * patch, 3)
  return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """A tensor that follows from its name, of a size at which every tensor matters."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if "token" in name or "position" in name:
    values = rng.standard_normal(shape)
  elif len(shape) > 1:
    values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
  elif name.endswith("bias"):
    values = 0.1 * rng.standard_normal(shape)
  else:  # norms and LayerScale
    values = rng.uniform(0.5, 1.5, shape)
  return values.astype(np.float32)


def write_folder(folder: pathlib.Path, model: str, shapes: dict[str, list[int]]) -> None:
  """model.safetensors and config.json, as a folder of the Hugging Face Hub has them."""
  import safetensors.numpy

  tensors = {name: draw(name, tuple(shape)) for name, shape in shapes.items()}
  safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
  (folder / "config.json").write_text(json.dumps(MODELS[model]))


def _answers(model: str, folder: pathlib.Path) -> dict[str, np.ndarray]:
  import safetensors.numpy
  import torch
  from transformers import AutoConfig, AutoModel

  sizes = {key: value for key, value in MODELS[model].items() if key != "model_type"}
  AutoModel.from_config(AutoConfig.for_model(MODELS[model]["model_type"], **sizes)).save_pretrained(folder)
  file = safetensors.numpy.load_file(folder / "model.safetensors")
  shapes = {name: tensor.shape for name, tensor in sorted(file.items())}
  write_folder(folder, model, shapes)
  network = AutoModel.from_pretrained(folder).eval()
  answers = {f"{model}/shapes": np.array(json.dumps(shapes))}
  for clip in CLIPS:
    pixels = torch.from_numpy(np.moveaxis(frames(model, clip)[0], -1, 1).copy())
    with torch.no_grad():
      answers[f"{model}/{clip}"] = network(pixels).last_hidden_state[None].numpy()
  return answers


def main() -> None:
  answers = {}
  for model in MODELS:
    with tempfile.TemporaryDirectory() as folder:
      answers |= _answers(model, pathlib.Path(folder))
  np.savez_compressed(FILE, **answers)


if __name__ == "__main__":
  main()
