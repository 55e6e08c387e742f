"""The fusion of GASM-CAST in PyTorch, and a train step of it, on the parameters of ours.

Written as one would in PyTorch: linear layers, `scaled_dot_product_attention` with the learned terms as its additive
mask, constants as buffers, the optimiser that torch offers as the fastest for all platforms (AdamW, fused), bfloat16 by
autocast. Modules bear the names of ours, see `torch_name`. See `gasmcast.jobs.benchmark_training_step.Peer`.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import torch_library as library
from gasmcast.core.errors import ConfigError
from gasmcast.core.timing import Side
from gasmcast.core.types import Batch
from gasmcast.fusion.bcast import repeat_tokens, time_window
from gasmcast.fusion.config import VARIANTS, FusionConfig, StreamGraph, StreamShapes, shapes_at, stream_graph
from gasmcast.fusion.metadata import lattice, offset_index, table_size
from gasmcast.fusion.neighbours import fixed_neighbours
from gasmcast.training.optim import OptimConfig

Tensor = torch.Tensor
EXPLICIT = "explicit attention"  # softmax(q k + bias) v written out, in place of torch's function for it
_EPSILON = 1e-6  # of our layer norms; torch's default is 1e-5
_FREE = ("graph_width", "graph_ffn_ratio", "bcast_ffn_ratio", "heads", "bottleneck", "windows", "merge_before", "remat")
_FREE_NUMBERS = ("semantic_radius", "semantic_nearest", "motion_window", "motion_nearest", "semantic_blocks")


def torch_name(name: str) -> str:
  """Our name of a parameter as torch's: "merge_2/score/kernel" is "merge_2.score.weight"."""
  return re.sub(r"\.(kernel|scale)$", ".weight", name.replace("/", "."))


def _norm(width: int) -> nn.LayerNorm:
  return nn.LayerNorm(width, _EPSILON)


def _table(heads: int, size: int) -> nn.Parameter:
  return nn.Parameter(torch.zeros(heads, size))


class Attention(nn.Module):
  """Multi-head attention of `width` with an additive term for each head and pair, -inf where they don't see."""

  def __init__(self, heads: int, width: int, explicit: bool):
    super().__init__()
    self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
    self.heads, self.explicit = heads, explicit

  def forward(self, queries: Tensor, sources: Tensor, bias: Tensor) -> Tensor:
    cut = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
    query, key, value = cut(self.query(queries)), cut(self.key(sources)), cut(self.value(sources))
    if self.explicit:
      logits = query @ key.mT * query.shape[-1] ** -0.5 + bias
      z = logits.softmax(-1).to(value.dtype) @ value
    else:
      z = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
    return self.out(z.transpose(1, 2).flatten(2))


class MLP(nn.Module):
  """Linear, GELU, Linear."""

  def __init__(self, width: int, hidden: int):
    super().__init__()
    self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)

  def forward(self, x: Tensor) -> Tensor:
    return self.out(F.gelu(self.hidden(x)))


class Scale(nn.Module):
  """A factor for each channel."""

  def __init__(self, width: int):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(width))

  def forward(self, x: Tensor) -> Tensor:
    return x * self.weight.to(x.dtype)


class Neighbours(nn.Module):
  """Features [G, N, D] -> (cosines [G, N, N], who is a neighbour of whom [G, N, N])."""

  def __init__(self, graph: StreamGraph, config: FusionConfig):
    super().__init__()
    fixed, self.count = fixed_neighbours(config.graph_neighbours, graph)
    self.register_buffer("fixed", torch.from_numpy(fixed), persistent=False)

  @torch.no_grad()
  def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
      x = x.float()
      x = F.normalize(x - x.mean(1, keepdim=True), dim=-1, eps=1e-6)
      similarity = x @ x.mT
    values, index = similarity.masked_fill(self.fixed, -torch.inf).topk(min(self.count, x.shape[1]), sorted=False)
    near = torch.zeros_like(similarity, dtype=torch.bool).scatter(-1, index, values.isfinite())
    return similarity, near | self.fixed


class GraphBlock(nn.Module):
  """Graph attention and feed-forward part on nodes [G, N, D]."""

  def __init__(self, config: FusionConfig, sides: tuple[int, ...], width: int, explicit: bool):
    super().__init__()
    self.norm, self.attention = _norm(width), Attention(config.heads, width, explicit)
    self.attention_scale = Scale(width)
    self.similarity_scale = nn.Parameter(torch.zeros(config.heads))
    self.offset_bias = _table(config.heads, table_size(sides, "signed"))
    self.register_buffer("offset", torch.from_numpy(offset_index(lattice(*sides), "signed")), persistent=False)
    self.ffn = None
    if config.graph_ffn_ratio:
      self.ffn_norm, self.ffn = _norm(width), MLP(width, int(width * config.graph_ffn_ratio))
      self.ffn_scale = Scale(width)

  def forward(self, x: Tensor, similarity: Tensor, mask: Tensor) -> Tensor:
    offsets = self.offset_bias.index_select(1, self.offset.flatten()).unflatten(1, self.offset.shape)
    bias = self.similarity_scale[:, None, None] * similarity[:, None] + offsets
    y = self.norm(x)
    x = x + self.attention_scale(self.attention(y, y, bias.masked_fill(~mask[:, None], -torch.inf)))
    return x if self.ffn is None else x + self.ffn_scale(self.ffn(self.ffn_norm(x)))


class BottleneckGraphBlock(nn.Module):
  """The same at a smaller width."""

  def __init__(self, config: FusionConfig, sides: tuple[int, ...], width: int, explicit: bool):
    super().__init__()
    self.down_norm, self.down = _norm(width), nn.Linear(width, config.bottleneck)
    self.block = GraphBlock(config, sides, config.bottleneck, explicit)
    self.up = nn.Linear(config.bottleneck, width)

  def forward(self, x: Tensor, similarity: Tensor, mask: Tensor) -> Tensor:
    return x + self.up(self.block(self.down(self.down_norm(x)), similarity, mask))


class BCast(nn.Module):
  """One exchange between the streams [B, T, N, D] and [B, T, 1, E]."""

  def __init__(self, config: FusionConfig, window: int, shapes: StreamShapes, explicit: bool):
    super().__init__()
    narrow, time = config.bottleneck, shapes.time
    for stream in ("semantic", "motion"):
      width = shapes.width(stream)
      parts = {"norm": _norm(width), "down": nn.Linear(width, narrow), "down_norm": _norm(narrow)}
      if config.bcast_ffn_ratio:
        parts |= {"ffn_norm": _norm(narrow), "ffn": MLP(narrow, int(narrow * config.bcast_ffn_ratio))}
      for name, part in (parts | {"up": nn.Linear(narrow, width)}).items():
        self.add_module(f"{stream}_{name}", part)
    self.motion_to_semantic = Attention(config.heads, narrow, explicit)
    self.semantic_to_motion = Attention(config.heads, narrow, explicit)
    self.motion_to_semantic_bias = _table(config.heads, table_size((time,), "signed"))
    self.semantic_to_motion_bias = _table(config.heads, table_size((time,), "signed"))
    self.time_embedding = nn.Parameter(torch.zeros(time, narrow))
    self.space_embedding = nn.Parameter(torch.zeros(shapes.patches, narrow))
    self.register_buffer("offset", torch.from_numpy(offset_index(lattice(time), "signed")), persistent=False)
    for name, queries, keys in (("near_motion", shapes.patches, 1), ("near_semantic", 1, shapes.patches)):
      seen = np.asarray(repeat_tokens(time_window(time, window), queries, keys))
      self.register_buffer(name, torch.from_numpy(seen.copy()), persistent=False)
    self.patches, self.feeds_forward = shapes.patches, config.bcast_ffn_ratio > 0

  def forward(self, semantic: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    s, m = self._narrow("semantic", semantic), self._narrow("motion", motion)
    s, m = (x + self.time_embedding[:, None] for x in (s, m))
    s, m = (s + self.space_embedding).flatten(1, 2), m.flatten(1, 2)
    bias = self._offsets(self.motion_to_semantic_bias).repeat_interleave(self.patches, 1)
    seen = self.motion_to_semantic(s, m, bias.masked_fill(~self.near_motion, -torch.inf))
    bias = self._offsets(self.semantic_to_motion_bias).repeat_interleave(self.patches, 2)
    heard = self.semantic_to_motion(m, s, bias.masked_fill(~self.near_semantic, -torch.inf))
    semantic = semantic + self._widen("semantic", seen).view_as(semantic)
    return semantic, motion + self._widen("motion", heard).view_as(motion)

  def _offsets(self, table: Tensor) -> Tensor:
    return table.index_select(1, self.offset.flatten()).unflatten(1, self.offset.shape)

  def _narrow(self, stream: str, x: Tensor) -> Tensor:
    norm, down, down_norm = (getattr(self, f"{stream}_{name}") for name in ("norm", "down", "down_norm"))
    return down_norm(down(norm(x)))

  def _widen(self, stream: str, z: Tensor) -> Tensor:
    if self.feeds_forward:
      z = z + getattr(self, f"{stream}_ffn")(getattr(self, f"{stream}_ffn_norm")(z))
    return getattr(self, f"{stream}_up")(F.gelu(z))


class Merge(nn.Module):
  """[B, T, N, D] -> [B, T, N / 4, D]: 2x2 squares weighted by a softmax of their scores."""

  def __init__(self, grid: tuple[int, int], width: int):
    super().__init__()
    self.norm, self.score, self.grid = _norm(width), nn.Linear(width, 1, bias=False), grid

  def forward(self, x: Tensor) -> Tensor:
    (rows, columns), (batch, time, _, width) = self.grid, x.shape
    x = x.view(batch, time, rows // 2, 2, columns // 2, 2, width).transpose(3, 4).reshape(batch, time, -1, 4, width)
    return (self.score(self.norm(x)).softmax(3).to(x.dtype) * x).sum(3)


class Pool(nn.Module):
  """[B, T, N, D] -> [B, D] by learned queries, one for each group of channels."""

  def __init__(self, config: FusionConfig, width: int, time: int):
    super().__init__()
    self.norm, self.key = _norm(width), nn.Linear(width, config.bottleneck)
    self.query = nn.Parameter(torch.zeros(config.heads, config.bottleneck // config.heads))
    self.time_bias = nn.Parameter(torch.zeros(config.heads, time))
    self.heads = config.heads

  def forward(self, x: Tensor) -> Tensor:
    tokens = x.shape[2]
    x = x.flatten(1, 2)
    keys = self.key(self.norm(x)).unflatten(-1, self.query.shape)
    logits = (keys * self.query.to(keys.dtype)).sum(-1) * self.query.shape[-1] ** -0.5
    logits = logits.mT + self.time_bias.repeat_interleave(tokens, 1)
    weights = logits.softmax(-1).to(x.dtype)
    return torch.einsum("bkn,bnke->bke", weights, x.unflatten(-1, (self.heads, -1))).flatten(1)


class Fusion(nn.Module):
  """Semantic tokens [B, T, N, D] and motion segments [B, T, E] -> logits [B, C]."""

  def __init__(
    self, config: FusionConfig, shapes: StreamShapes, classes: int, dtype: torch.dtype, explicit: bool = False
  ):
    super().__init__()
    block = GraphBlock if config.graph_width == "full" else BottleneckGraphBlock
    for stream in ("semantic", "motion"):
      graph = stream_graph(config, shapes, stream)
      self.add_module(f"{stream}_neighbours", Neighbours(graph, config))
      for i in range(graph.blocks):
        self.add_module(f"{stream}_graph_{i}", block(config, graph.sides, shapes.width(stream), explicit))
    for layer, window in enumerate(config.windows, 1):
      if layer in config.merge_before:
        self.add_module(f"merge_{layer}", Merge(shapes_at(config, shapes, layer - 1).grid, shapes.semantic_width))
      self.add_module(f"bcast_{layer}", BCast(config, window, shapes_at(config, shapes, layer), explicit))
    self.pool_semantic = Pool(config, shapes.semantic_width, shapes.time)
    self.pool_motion = Pool(config, shapes.motion_width, shapes.time)
    width = shapes.semantic_width + shapes.motion_width
    self.output_norm, self.head = _norm(width), nn.Linear(width, classes)
    self.config, self.dtype = config, dtype

  def forward(self, semantic: Tensor, motion: Tensor) -> Tensor:
    semantic = self._refine("semantic", semantic.flatten(0, 1)).view_as(semantic)
    motion = self._refine("motion", motion)[:, :, None]
    for layer in range(1, len(self.config.windows) + 1):
      if layer in self.config.merge_before:
        semantic = getattr(self, f"merge_{layer}")(semantic)
      semantic, motion = getattr(self, f"bcast_{layer}")(semantic, motion)
    pooled = torch.cat([self.pool_semantic(semantic), self.pool_motion(motion)], -1)
    return self.head(self.output_norm(pooled))

  def _refine(self, stream: str, x: Tensor) -> Tensor:
    similarity, mask = getattr(self, f"{stream}_neighbours")(x)
    x = x.to(self.dtype)
    for i in range(getattr(self.config, f"{stream}_blocks")):
      x = getattr(self, f"{stream}_graph_{i}")(x, similarity, mask)
    return x


def _require_known(config: FusionConfig, shapes: StreamShapes) -> None:
  base, free = VARIANTS["base"], (*_FREE, *_FREE_NUMBERS, "motion_blocks", "bias_std", "embedding_std", "zero_init")
  other = [name for name in vars(config) if name not in free and getattr(config, name) != getattr(base, name)]
  if other or shapes.cells > 1:
    what = other[0] if other else "motion_grid"
    raise ConfigError(f"fusion.{what}: the fusion in torch has what the variant 'base' has; measure ours alone.")


class TrainStep:
  """The network and all that a train step of it needs. See `Peer`.

  Raises:
    ConfigError: a choice of the fusion that is not written out here.
  """

  def __init__(self, config: FusionConfig, shapes: StreamShapes, classes: int, platform: str):
    _require_known(config, shapes)
    self._sizes, self._where = (config, shapes, classes), library.device(platform)

  def step_side(
    self,
    name: str,
    parameters: Mapping[str, np.ndarray],
    batch: Batch,
    label: str,
    dtype: str,
    optim: OptimConfig,
    label_smoothing: float,
  ) -> Side:
    """See `Peer`."""
    _, wanted = library.split_name(name)
    module = Fusion(*self._sizes, getattr(torch, dtype), EXPLICIT in wanted)
    ours = {torch_name(key): key for key in parameters}
    module.load_state_dict({key: _as_torch(parameters[ours[key]], ours[key]) for key in ours})
    module = module.to(self._where).train()
    features = (torch.from_numpy(batch[key]).to(self._where) for key in ("semantic", "motion"))
    given = (*features, torch.from_numpy(batch[label]).long().to(self._where))

    def loss(given: tuple[Tensor, ...]) -> Tensor:
      semantic, motion, labels = given
      with torch.autocast(self._where.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = module(semantic, motion)
      return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)

    def arrays(result: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
      numbers = {key: library.numpy_of(value) for key, value in result.items()}
      learned = {ours[key]: library.numpy_of(value) for key, value in module.named_parameters()}
      return numbers | {key: _as_ours(value, key) for key, value in learned.items()}

    optimizer = adamw(module, optim)
    return library.step_side(name, loss, given, optimizer, optim.clip_norm, arrays, frozenset([EXPLICIT]))


def adamw(module: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
  """AdamW that lets the weights of linear layers decay and nothing else."""
  layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
  decayed = [layer.weight for layer in layers]
  known = {id(weight) for weight in decayed}
  others = [weight for weight in module.parameters() if id(weight) not in known]
  groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": others, "weight_decay": 0.0}]
  return torch.optim.AdamW(groups, optim.lr, (optim.beta1, optim.beta2), optim.eps, fused=True)


def _as_torch(array: np.ndarray, name: str) -> Tensor:
  return torch.from_numpy(np.array(array.T if name.endswith("/kernel") else array))


def _as_ours(array: np.ndarray, name: str) -> np.ndarray:
  return array.T if name.endswith("/kernel") else array
