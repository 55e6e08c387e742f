"""The two kinds of pickles that packages ship, read into NumPy arrays without PyTorch and without running code.

An unpickler runs what a pickle names. These allow the few names that arrays are rebuilt from and refuse the rest.
They are meant for files whose content is known by its hash; a PyTorch file of unknown origin goes to `pytorch_files`.
"""

import collections
import dataclasses
import math
import pathlib
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from gasmcast.core.errors import WeightsError

SEPARATOR = "|"  # of the keys of nested mappings in one name; "/" may be part of a key
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what the files of PyTorch before 1.6 begin with


def read_nested_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of a pickle of nested dicts; their names are the keys from the outside in, joined by `SEPARATOR`.

  Raises:
    WeightsError: the pickle asks for anything but arrays, is damaged, or holds something else.
  """
  content = _guarded(path, lambda file: _ArrayUnpickler(file).load())
  if not isinstance(content, Mapping):
    raise WeightsError(f"{path} holds a {type(content).__name__}, not a dict of arrays.")
  return dict(_named(content, path))


def read_legacy_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a state dict that PyTorch before 1.6 saved: four pickles, the keys of its storages, their bytes.

  Raises:
    WeightsError: the file asks for anything but tensors of the CPU, is damaged, or is of another kind.
  """
  return _guarded(path, _read_legacy)


class _ArrayUnpickler(pickle.Unpickler):
  """What a pickled array asks for, under the names of NumPy 1 and 2."""

  def find_class(self, module: str, name: str) -> Any:
    if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
      return _empty_array
    if module == "numpy" and name in ("ndarray", "dtype"):
      return getattr(np, name)
    raise WeightsError(f"it asks for {module}.{name}, which could run code.")


class _TensorUnpickler(pickle.Unpickler):
  """What a state dict asks for. Its tensors become `_Tensor`s, for the bytes come after the pickle."""

  def find_class(self, module: str, name: str) -> Any:
    allowed = {
      ("collections", "OrderedDict"): collections.OrderedDict,
      ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
      ("torch", "FloatStorage"): np.dtype("<f4"),
      ("torch", "LongStorage"): np.dtype("<i8"),
    }
    if (module, name) not in allowed:
      raise WeightsError(f"it asks for {module}.{name}, which could run code.")
    return allowed[module, name]

  def persistent_load(self, pid: Any) -> "_Storage":
    kind, dtype, key, _, size, view = pid
    if kind != "storage" or view is not None:
      raise WeightsError("it holds something other than tensors.")
    return _Storage(dtype, key, size)


@dataclasses.dataclass(frozen=True)
class _Storage:
  dtype: np.dtype
  key: str
  size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """The arguments of `torch._utils._rebuild_tensor_v2`; offset and strides count elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]
  requires_grad: bool
  hooks: Any

  def array(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    flat = storages[self.storage.key]
    last = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
    if min((self.offset, *self.shape, *self.strides)) < 0 or (math.prod(self.shape) and last >= flat.size):
      raise ValueError(f"a tensor of the shape {self.shape} reaches beyond its storage of {flat.size} elements")
    steps = [stride * flat.itemsize for stride in self.strides]
    view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps, writeable=False)
    return np.array(view, order="C")


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
  load = lambda: _TensorUnpickler(file).load()
  if (load(), load()) != (_MAGIC, _PROTOCOL):
    raise WeightsError("it is no file of PyTorch before 1.6.")
  load()  # sizes of types on the machine that wrote it
  tensors, keys = load(), load()
  if not isinstance(tensors, Mapping) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
    raise WeightsError("it holds something other than a state dict.")
  stored = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
  storages = {}
  for key in keys:
    size = int.from_bytes(file.read(8), "little")
    if size != stored[key].size:
      raise ValueError(f"a storage has {size} elements, {stored[key].size} were announced")
    storages[key] = np.frombuffer(file.read(size * stored[key].dtype.itemsize), stored[key].dtype, size)
  return {name: tensor.array(storages) for name, tensor in tensors.items()}


def _guarded(path: pathlib.Path, read: Any) -> Any:
  """What `read` makes of the open file; everything that it raises becomes one line."""
  try:
    with open(path, "rb") as file:
      return read(file)
  except WeightsError as error:
    raise WeightsError(f"{path} is refused: {error}") from error
  except OSError as error:
    raise WeightsError(f"{path} can't be read: {error.strerror or error}.") from error
  except Exception as error:  # a damaged pickle can raise anything
    raise WeightsError(f"{path} is damaged ({type(error).__name__}: {error}); get it again.") from error


def _empty_array(kind: type, shape: tuple[int, ...], dtype: bytes) -> np.ndarray:
  """Stands for NumPy's private `_reconstruct`: an empty array that the state in the pickle then fills."""
  if kind is not np.ndarray or shape != (0,):
    raise WeightsError("it builds something other than plain arrays.")
  return np.ndarray(shape, dtype)


def _named(tree: Mapping[Any, Any], path: pathlib.Path, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _named(value, path, f"{prefix}{key}{SEPARATOR}")
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
      yield f"{prefix}{key}", value
    else:
      kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
      raise WeightsError(f"{path}: {prefix}{key} is {kind}, not numbers.")
