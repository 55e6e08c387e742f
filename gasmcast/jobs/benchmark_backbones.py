"""What job benchmark measures of backbones: the forward pass, or the gradient, of one network on the same weights.

Ours is measured as a user calls it, `net.forward(x)` on an array that is on the device already. The peer draws the
weights, ours takes them by `features.convert`: sides that agree show that both are the same network.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gasmcast import features
from gasmcast.core import rules
from gasmcast.core.config import parse, require, to_dict
from gasmcast.core.errors import ConfigError, UserError
from gasmcast.core.timing import Side, largest_error, norm_error
from gasmcast.core.types import PyTree
from gasmcast.features.backbones import FAMILIES
from gasmcast.features.cost import cost
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_peers import Peers, resolve

_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
_GRADIENT_TOLERANCE = 0.1  # of the norm; another function is off by its whole size
_OURS, _FROZEN = "gasmcast", "gasmcast, freezing"


class Peer(Protocol):
  """The same network in another library, made by the function that a case names from our config and the platform.

  Attributes:
    tensors: its weights under their published names.
  """

  tensors: Mapping[str, np.ndarray]

  def forward_side(self, name: str, frames: np.ndarray, dtype: str) -> Side:
    """The forward pass of normalised frames [B, T, H, W, 3]; outputs under our names and in our shapes."""

  def gradient_side(self, name: str, frames: np.ndarray, dtype: str, output: str) -> Side:
    """The gradient of the mean square of an output, in training mode, under the names of `tensors`."""


@dataclasses.dataclass(frozen=True)
class BackboneCase:
  """One network at one size.

  Attributes:
    backbone: key of `features.BACKBONES`.
    shape: of the frames: clips, frames, height, width.
    dtype: of the arithmetic.
    options: fields of the network's config.
    gradient: the output of whose mean square the gradient for all parameters is taken, in training mode; "" for the
      forward pass.
    our_sides: ways to run ours: "gasmcast", as a user calls it, and "gasmcast, freezing", the weights as constants that
      the compiler may fold (of the forward pass).
    peer: function that makes the peer, "module:function"; "" for none.
    peer_sides: ways to run it.
    tolerance: largest error; None for 1e-4 in float32 and 0.1 in bfloat16, of the largest value of an output, and for
      0.1 of the norm of a parameter's gradient.
  """

  backbone: str
  shape: tuple[int, int, int, int]
  dtype: Literal["float32", "bfloat16"] = "float32"
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  gradient: str = ""
  our_sides: tuple[str, ...] = (_OURS,)
  peer: str = ""
  peer_sides: tuple[str, ...] = ()
  tolerance: float | None = None

  def __post_init__(self):
    known = ", ".join(features.BACKBONES)
    require(self.backbone in features.BACKBONES, f"backbone = {self.backbone!r} is no backbone; use one of {known}.")
    require(
      all(side > 0 for side in self.shape), f"shape = {self.shape}: clips, frames, height and width are positive."
    )
    ways = (_OURS,) if self.gradient else (_OURS, _FROZEN)
    require(
      bool(self.our_sides) and set(self.our_sides) <= set(ways),
      f"our_sides = {self.our_sides}: use {' or '.join(map(repr, ways))}.",
    )

  @property
  def config(self) -> Any:
    """The network's sizes and options."""
    published = features.BACKBONES[self.backbone].config
    return parse(type(published), {**to_dict(published), **self.options}, "options")

  @property
  def module(self) -> nn.Module:
    """The network in `dtype`."""
    return FAMILIES[features.BACKBONES[self.backbone].family].module(self.config, jnp.dtype(self.dtype))

  @property
  def frames(self) -> np.ndarray:
    """Normalised frames [B, T, H, W, 3], noise."""
    return np.random.default_rng(0).standard_normal((*self.shape, 3), np.float32)


def parse_case(values: Mapping[str, Any], where: str) -> BackboneCase:
  """A case whose network can be made, takes its frames, has a formula of its cost and the output to be differentiated.

  Raises:
    ConfigError: it can't be, or a field is unknown.
  """
  case = parse(BackboneCase, values, where)
  try:
    case.config.check_frames(*case.shape[1:])
    cost(case.config, case.shape)
  except UserError as error:
    raise ConfigError(f"{where}: {error}") from error
  if case.gradient:
    shape = jax.ShapeDtypeStruct((*case.shape, 3), jnp.float32)
    outputs, _ = jax.eval_shape(case.module.init_with_output, jax.random.key(0), shape)
    require(
      case.gradient in outputs,
      f"{where}.gradient = {case.gradient!r} is no output of {case.backbone} with these options; it has "
      f"{', '.join(outputs)}.",
    )
  return case


def versions() -> dict[str, str]:
  """Nothing beside what every run needs."""
  return {}


def prepare(where: str, case: BackboneCase, peers: Peers | None, platform: str) -> Prepared:
  """The sides of a case, ours first."""
  peer: Peer | None = None
  if peers is not None and case.peer:
    peer = resolve(case.peer, f"{where}.peer")(case.config, platform)
  net, frames, operations = _network(case, peer), case.frames, cost(case.config, case.shape)
  if case.gradient:
    sides = [_our_gradient(net, frames, case.gradient)]
  else:
    sides = [_our_forward(net, frames, name) for name in case.our_sides]
  for name in case.peer_sides if peer else ():
    if case.gradient:
      sides.append(_under_our_names(peer.gradient_side(name, frames, case.dtype, case.gradient), case, peer.tensors))
    else:
      sides.append(peer.forward_side(name, frames, case.dtype))
  reference = None
  if case.dtype != "float32":  # every side is compared with float32, so that one sees which one rounds more
    exact = dataclasses.replace(net, dtype="float32")
    side = _our_gradient(exact, frames, case.gradient) if case.gradient else _our_forward(exact, frames, _OURS)
    reference = side.arrays(side.call())
  tolerance = _GRADIENT_TOLERANCE if case.gradient else _TOLERANCE[case.dtype]
  kind = f"gradient of mean({case.gradient}^2)" if case.gradient else "forward pass"
  formula = f"3 forward - first layer, forward = {operations.formula}" if case.gradient else operations.formula
  return Prepared(
    sides,
    f"{kind} of {case.backbone} on frames {[*case.shape, 3]}, {case.dtype}",
    operations.gradient if case.gradient else operations.forward,
    formula,
    tolerance if case.tolerance is None else case.tolerance,
    norm_error if case.gradient else largest_error,
    reference,
  )


def _network(case: BackboneCase, peer: Peer | None) -> features.Network:
  """Ours, with the peer's weights if there is one."""
  net = features.load(case.backbone, "random", dtype=case.dtype, **case.options)
  if peer is None:
    return net
  variables = features.convert(case.backbone, peer.tensors, **case.options)
  return dataclasses.replace(net, variables=jax.tree.map(jnp.asarray, variables), origin="the peer")


def _our_forward(net: features.Network, frames: np.ndarray, name: str) -> Side:
  x, variables, apply = jnp.asarray(frames), net.variables, net.module.apply
  if name == _FROZEN:
    frozen = jax.jit(lambda x: apply(variables, x))
    call, compiled = lambda: jax.block_until_ready(frozen(x)), lambda: frozen.lower(x).compile()
  else:
    call, compiled = lambda: jax.block_until_ready(net.forward(x)), lambda: jax.jit(apply).lower(variables, x).compile()
  return Side(name, call, _numpy, _device_memory(compiled))


def _our_gradient(net: features.Network, frames: np.ndarray, output: str) -> Side:
  x, module = jnp.asarray(frames), net.module
  params = net.variables["params"]
  buffers = {name: tree for name, tree in net.variables.items() if name != "params"}

  def loss(params: PyTree, buffers: PyTree, x: jax.Array) -> jax.Array:
    outputs, _ = module.apply({"params": params, **buffers}, x, train=True, mutable=[*buffers])
    return jnp.square(outputs[output]).mean()

  gradient = jax.jit(jax.grad(loss))
  compiled = lambda: gradient.lower(params, buffers, x).compile()
  return Side(
    _OURS, lambda: jax.block_until_ready(gradient(params, buffers, x)), _gradient_arrays, _device_memory(compiled)
  )


def _gradient_arrays(gradient: PyTree) -> dict[str, np.ndarray]:
  return _numpy(rules.flatten({"params": gradient}))


def _under_our_names(side: Side, case: BackboneCase, tensors: Mapping[str, np.ndarray]) -> Side:
  """The side with its gradient brought into our form by the very rules that bring its weights there."""

  def arrays(result: Any) -> dict[str, np.ndarray]:
    variables = features.convert(case.backbone, {**tensors, **side.arrays(result)}, **case.options)
    return _gradient_arrays(variables["params"])

  return dataclasses.replace(side, arrays=arrays)


def _numpy(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
  return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _device_memory(compiled: Callable[[], Any]) -> Callable[[], int | None] | None:
  """On an accelerator the compiler's own plan: outputs and workspace. A CPU's is seen from outside."""
  if jax.default_backend() == "cpu":
    return None

  def measure() -> int | None:
    plan = compiled().memory_analysis()
    return plan and plan.temp_size_in_bytes + plan.output_size_in_bytes

  return measure
