"""PyTorch's own files, converted once. The only file of the library that imports torch, and only when it must.

A .pth file is a pickle: reading it can run any code that its author chose. `torch.load(weights_only=True)` rebuilds
tensors and containers and refuses the rest. What it reads is kept as safetensors in the cache, under the hash of the
PyTorch file, so that torch is not needed a second time.
"""

import os
import pathlib
import pickle
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from gasmcast.core.cache import cache_folder
from gasmcast.core.errors import WeightsError
from gasmcast.core.manifest import hash_file
from gasmcast.features.weights.tensor_files import is_intact, write_tensors

_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # since 1.6 and before
_INSIDE = ("state_dict", "model", "teacher")  # what training scripts store the weights under
_SAFE_SINCE = (2, 6)  # weights_only could be made to run code before (CVE-2025-32434)


def is_pytorch(beginning: bytes) -> bool:
  """Whether a file that begins so was written by torch.save (or is another zip archive)."""
  return beginning.startswith((_ZIP, _LEGACY))


def as_safetensors(path: str | os.PathLike) -> pathlib.Path:
  """The state dict of a PyTorch file as a safetensors file in the cache, made if it is not there or is damaged.

  The tensors may lie below "state_dict", "model" or "teacher"; the prefix "module." of data-parallel training is
  dropped. bfloat16 becomes float32; everything else stays as it is.

  Raises:
    WeightsError: torch is needed and is not installed or too old; the file is refused, damaged, or no state dict; the
      cache can't be written.
  """
  path = pathlib.Path(path)
  try:
    cached = cache_folder("weights") / f"{hash_file(path)}.safetensors"
  except OSError as error:
    raise WeightsError(f"{path} can't be read: {error.strerror or error}.") from error
  if is_intact(cached):
    return cached
  arrays = {name: _array(name, tensor, path) for name, tensor in _state_dict(_load(path), path).items()}
  try:
    write_tensors(cached, arrays, {"source": path.name})
  except OSError as error:
    raise WeightsError(
      f"{path} is read, but its conversion can't be written to {cached.parent}: {error.strerror or error}. Make room "
      "there, or set XDG_CACHE_HOME to a folder that can be written."
    ) from error
  return cached


def require_torch(path: str | os.PathLike) -> Any:
  """The module torch. Raises WeightsError when it is absent or too old; `path` is the file that needs it."""
  need = f"{path} is a PyTorch file; reading it the first time takes PyTorch"
  remedy = 'pip install "gasmcast[torch]", once: its conversion is kept and read without PyTorch from then on.'
  try:
    import torch
  except ImportError as error:
    why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"can't be imported ({_line(error)})"
    raise WeightsError(f"{need}, which {why}: {remedy}") from error
  version = tuple(int(digits) for digits in re.findall(r"\d+", torch.__version__)[:2])
  if version < _SAFE_SINCE:
    raise WeightsError(
      f"{need}, and {torch.__version__} is installed, whose weights-only reading can be made to run code "
      f"(CVE-2025-32434): {remedy}"
    )
  return torch


def _load(path: pathlib.Path) -> Any:
  torch = require_torch(path)
  try:
    return torch.load(path, map_location="cpu", weights_only=True)
  except pickle.UnpicklingError as error:
    if "nsupported" in str(error):
      asked = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
      what = f" (it asks for {asked[1]})" if asked else ""
      raise WeightsError(
        f"{path} is refused: it is a pickle that holds more than tensors{what}, and reading it could run code. Save "
        "its state dict alone, best as safetensors, where you trust its source."
      ) from error
    raise WeightsError(f"{path} is damaged or no PyTorch file ({_line(error)}); get it again.") from error
  except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
    if "TorchScript" in str(error):
      raise WeightsError(
        f"{path} is a TorchScript program, which is code; give its state dict in its place."
      ) from error
    raise WeightsError(f"{path} is damaged or no PyTorch file ({_line(error)}); get it again.") from error


def _state_dict(content: Any, path: pathlib.Path) -> dict[str, Any]:
  """Name -> tensor, out of what training scripts wrap around it."""
  inside = next(
    (key for key in _INSIDE if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)), None
  )
  if inside is not None:
    return _state_dict(content[inside], path)
  torch = sys.modules["torch"]
  if not isinstance(content, Mapping):
    raise WeightsError(f"{path} holds a {type(content).__name__}, not a state dict: name -> tensor. Save that of it.")
  others = [f"{name!r} ({type(value).__name__})" for name, value in content.items() if not torch.is_tensor(value)]
  if not content:
    raise WeightsError(f"{path} holds no tensors; get it again.")
  if others:
    more = f" and {len(others) - 4} more" if len(others) > 4 else ""
    raise WeightsError(
      f"{path} is no state dict: it holds {', '.join(others[:4])}{more}, which are no tensors. Save the state dict "
      f"alone, or below {' or '.join(map(repr, _INSIDE))}."
    )
  stripped = {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
  if len(stripped) != len(content):
    raise WeightsError(f'{path} holds tensors with and without the prefix "module." under one name; keep one of each.')
  return stripped


def _array(name: str, tensor: Any, path: pathlib.Path) -> np.ndarray:
  torch = sys.modules["torch"]
  if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
    kind = (
      "quantised" if tensor.is_quantized else "without values" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"
    )
    raise WeightsError(f"{path}: {name} is {kind}; save it as a dense floating point tensor.")
  tensor = tensor.detach()
  return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()


def _line(error: Exception) -> str:
  """The first sentence of what an error says."""
  lines = str(error).strip().splitlines()
  return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__
