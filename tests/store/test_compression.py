"""Smaller forms of features: sizes, averages and errors that can be computed by hand."""

import io
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.store.compression import (
  LEVELS,
  SMALLEST_SCALE,
  Pca,
  Variant,
  compress,
  decompress,
  fit_pca,
  load_pca,
  name_parts,
  nbytes,
  parts_of,
  pool_features,
  pool_tokens,
  stored_shape,
  tokens_after,
)

CLIP = (8, 196, 768)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ("shape", "variant", "expected"),
  [
    (CLIP, Variant(), 2_408_448),
    (CLIP, Variant(precision="int8"), 1_207_360),
    (CLIP, Variant(49, "int8"), 301_840),
    (CLIP, Variant(49, "int8", 256), 101_136),
    (CLIP, Variant(1, "float32"), 8 * 768 * 4),
    ((8, 512), Variant(), 8_192),
    ((8, 512), Variant(49, "int8"), 8 * 512 + 8 * 2),
  ],
)
def test_a_clip_takes_so_many_bytes(shape, variant, expected):
  assert nbytes(shape, variant) == expected


@pytest.mark.parametrize(
  ("variant", "in_gigabytes"),
  [(Variant(), 407), (Variant(0, "int8"), 204), (Variant(49, "int8"), 51), (Variant(49, "int8", 256), 17)],
)
def test_something_something_takes_so_many_gigabytes(variant, in_gigabytes):
  assert round(168_913 * nbytes(CLIP, variant) / 1e9) == in_gigabytes


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("tokens", [0, 1, 4, 16])
@pytest.mark.parametrize("pca", [0, 3])
@pytest.mark.parametrize("shape", [(2, 16, 6), (2, 6)])
def test_the_bytes_are_those_of_the_arrays(precision, tokens, pca, shape):
  x = normal(*shape)
  variant = Variant(tokens, precision, pca)
  parts = compress(x, variant, fit_pca(normal(50, 6), pca) if pca else None)
  assert sum(part.nbytes for part in parts.values()) == nbytes(shape, variant)


def test_neighbouring_cells_of_the_grid_are_averaged():
  grid = np.float32([[1, 2, 10, 20], [3, 4, 30, 40], [5, 5, 0, 0], [5, 5, 0, 8]])
  pooled = pool_tokens(grid.reshape(1, 16, 1), 4)
  assert pooled.reshape(2, 2).tolist() == [[2.5, 25], [5, 2]]
  assert pool_tokens(grid.reshape(1, 16, 1), 1).tolist() == [[[grid.mean()]]]


def test_cells_three_wide_and_leading_axes_are_kept_apart():
  x = normal(2, 3, 36, 5)
  pooled = pool_tokens(x, 4)
  grid = x.reshape(2, 3, 6, 6, 5)
  assert pooled.shape == (2, 3, 4, 5)
  np.testing.assert_allclose(pooled[1, 2, 1], grid[1, 2, :3, 3:].mean((0, 1)), rtol=1e-5)
  np.testing.assert_allclose(pooled[0, 1, 2], grid[0, 1, 3:, :3].mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
  ("before", "wanted", "after"),
  [(196, 0, 196), (196, 196, 196), (196, 49, 49), (196, 4, 4), (49, 49, 49), (49, 1, 1), (50, 1, 1), (50, 50, 50)],
)
def test_tokens_that_can_be_left(before, wanted, after):
  assert tokens_after(before, wanted) == after


@pytest.mark.parametrize(
  ("before", "wanted", "possible"),
  [(196, 100, "196, 49, 4, 1"), (196, 50, "196, 49, 4, 1"), (49, 16, "49, 1"), (50, 25, "50, 1"), (16, 64, "16, 4, 1")],
)
def test_tokens_that_can_not_be_left_are_refused_with_those_that_can(before, wanted, possible):
  message = rf"^tokens = {wanted}: {before} tokens a frame can be averaged to {possible}; use one of them, or 0 for all"
  with pytest.raises(ConfigError, match=message):
    pool_tokens(np.zeros((before, 2), np.float32), wanted)
  with pytest.raises(ConfigError, match=message):
    nbytes((8, before, 2), Variant(wanted))


def test_a_variant_that_can_not_be_is_refused():
  with pytest.raises(ConfigError, match=r"precision = 'int4' is not one of 'float32', 'bfloat16', 'int8'\."):
    Variant(precision="int4")
  with pytest.raises(ConfigError, match=r"tokens = -1: it must be at least 0; 0 keeps all\."):
    Variant(-1)
  with pytest.raises(ConfigError, match=r"pca = -1: it must be at least 0; 0 keeps all\."):
    Variant(pca=-1)


def test_float32_is_exact_and_bfloat16_is_the_nearest():
  x = normal(2, 4, 8)
  np.testing.assert_array_equal(compress(x, Variant(precision="float32"))[""], x)
  stored = compress(x, Variant())[""]
  assert stored.dtype == ml_dtypes.bfloat16
  assert (np.abs(stored.astype(np.float32) - x) <= np.abs(x) * 2**-8).all()


def test_int8_by_hand():
  x = np.float32([[127, -127, 63.5, 64.5, 0.49], [0, 0, 0, 0, 0], [2, 1, -1, 0, 0]])
  parts = compress(x, Variant(precision="int8"))
  assert parts["scale"].dtype == np.float16 and parts["scale"].shape == (3, 1)
  assert parts["scale"][:2, 0].tolist() == [1, 2**-14]
  assert parts[""][0].tolist() == [127, -127, 64, 64, 0]  # halves go to the even neighbour
  assert parts[""][1].tolist() == [0, 0, 0, 0, 0]
  assert parts[""][2].tolist() == [127, 63, -63, 0, 0]  # 2 / 127 is rounded up, so 1 is a little less than 63.5 steps


def magnitudes() -> np.ndarray:
  """Tokens from the smallest float32 to the largest that int8 with float16 scales holds."""
  return np.geomspace(1e-38, LEVELS * 65504.0, 400, dtype=np.float32)[:, None]


def test_the_error_of_int8_is_half_a_step():
  x = normal(400, 64) * magnitudes() / 5
  parts = compress(x.clip(-magnitudes(), magnitudes()), Variant(precision="int8"))
  x = x.clip(-magnitudes(), magnitudes()).astype(np.float64)
  scale = parts["scale"].astype(np.float64)
  error = np.abs(x - parts[""].astype(np.float64) * scale)
  assert (
    error <= scale / 2 * (1 + 1e-5)
  ).all()  # x / scale is rounded in float32 before it is rounded to a whole number
  assert np.abs(parts[""]).max() <= LEVELS


def test_the_scale_is_the_least_float16_that_cuts_nothing_off():
  x = normal(400, 64) * magnitudes() / 5
  scale = compress(x, Variant(precision="int8"))["scale"]
  largest = np.abs(x).max(-1, keepdims=True).astype(np.float64)
  assert np.isfinite(scale).all() and (scale >= SMALLEST_SCALE).all()
  assert (scale.astype(np.float64) * LEVELS * (1 + 1e-6) >= largest).all()
  smaller = np.nextafter(scale, np.float16(0)).astype(np.float64)
  assert ((smaller * LEVELS < largest) | (scale == SMALLEST_SCALE)).all()


def test_every_scale_is_a_normal_number_which_no_accelerator_takes_for_zero():
  assert np.finfo(np.float16).smallest_normal == SMALLEST_SCALE


def test_what_int8_can_not_hold_is_refused():
  with pytest.raises(DataError, match=r"features reach 1e\+07; .* up to 8.32e\+06\. Use precision = 'bfloat16'\."):
    compress(np.float32([[1e7, 0]]), Variant(precision="int8"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_values_that_are_not_finite_are_refused(bad, precision):
  x = normal(2, 4, 8)
  x[1, 2, 3] = bad
  with pytest.raises(DataError, match=r"^1 of 64 values of the features are not finite; look for a damaged input or"):
    compress(x, Variant(precision=precision))


def test_what_overflows_in_bfloat16_is_refused():
  x = np.float32([[np.finfo(np.float32).max, 1]])
  with pytest.raises(DataError, match="1 of 2 values of the features in bfloat16 are not finite"):
    compress(x, Variant())
  assert compress(x, Variant(precision="float32"))[""].max() == np.finfo(np.float32).max


def test_features_without_tokens_keep_their_shape():
  x = normal(8, 16)
  np.testing.assert_array_equal(compress(x, Variant(49, "float32"))[""], x)


def test_compressing_does_not_change_what_it_is_given():
  x = normal(2, 4, 8)
  before = x.copy()
  compress(x, Variant(1, "int8"))
  compress(x, Variant(0, "float32"))
  np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_what_is_stored_comes_back_nearly(precision):
  x = normal(2, 4, 64)
  found = decompress(compress(x, Variant(precision=precision)))
  assert found.dtype == np.float32
  assert np.abs(found - x).max() < {"float32": 1e-9, "bfloat16": 0.02, "int8": 0.02}[precision]


def test_the_parts_of_a_stream_are_named_after_it():
  parts = compress(normal(2, 8), Variant(precision="int8"))
  assert list(name_parts("semantic", parts)) == ["semantic", "semantic_scale"]
  assert list(name_parts("motion", {"": parts[""]})) == ["motion"]


def correlated(count: int, seed: int = 0) -> np.ndarray:
  """Variances 9, 4, 1 along three orthogonal directions of five, about the mean (1, 2, 3, 4, 5)."""
  directions = np.linalg.qr(normal(5, 3))[0]
  return (normal(count, 3, seed=seed) * [3, 2, 1]) @ directions.T + np.arange(1, 6)


def test_components_of_a_line_by_hand():
  samples = np.float32([[1, -1], [2, -2], [3, -3], [6, -6]])
  pca = fit_pca(samples, 1)
  assert pca.mean.tolist() == [3, -3]
  np.testing.assert_allclose(np.abs(pca.basis[:, 0]), np.sqrt(0.5), rtol=1e-6)
  assert pca.basis[0, 0] == -pca.basis[1, 0]
  assert pca.explained == pytest.approx(1)


def test_components_that_hold_all_the_variance_lose_nothing():
  x = correlated(200).astype(np.float32)
  pca = fit_pca(x, 3)
  np.testing.assert_allclose(pca.restore(pca.apply(x)), x, atol=1e-4)
  np.testing.assert_allclose(pca.basis.T @ pca.basis, np.eye(3), atol=1e-6)
  assert pca.explained == pytest.approx(1)


def test_the_explained_share_is_that_of_the_variances():
  x = correlated(20_000)
  assert fit_pca(x, 1).explained == pytest.approx(9 / 14, abs=0.01)
  assert fit_pca(x, 2).explained == pytest.approx(13 / 14, abs=0.01)


def test_the_largest_entry_of_each_direction_is_positive():
  basis = fit_pca(correlated(100), 3).basis
  assert (np.take_along_axis(basis, np.abs(basis).argmax(0)[None], 0) > 0).all()
  np.testing.assert_array_equal(fit_pca(-correlated(100), 3).basis, basis)


def test_samples_in_pieces_give_the_components_of_all(monkeypatch):
  x = correlated(100)
  whole = fit_pca(x, 2)
  monkeypatch.setattr("gasmcast.store.compression._PIECE", 7)
  np.testing.assert_allclose(fit_pca(x, 2).basis, whole.basis, atol=1e-6)


def test_samples_that_are_all_equal_have_nothing_to_explain():
  pca = fit_pca(np.ones((10, 4), np.float32), 2)
  assert pca.explained == 1 and np.isfinite(pca.basis).all()
  np.testing.assert_array_equal(pca.apply(np.ones((1, 4))), [[0, 0]])


def test_components_that_can_not_be_fitted_are_refused():
  with pytest.raises(ConfigError, match=r"pca = 6 for features of width 5; use 1 to 5\."):
    fit_pca(correlated(20), 6)
  with pytest.raises(DataError, match="4 principal components need more than 4 samples and there are 4; give more"):
    fit_pca(correlated(4), 4)
  with pytest.raises(DataError, match="1 of 100 values of the samples for principal components are not finite"):
    x = correlated(20)
    x[3, 3] = np.nan
    fit_pca(x, 2)


def test_a_variant_and_the_components_must_agree():
  pca = fit_pca(correlated(20), 2)
  assert compress(np.ones((3, 5), np.float32), Variant(pca=2), pca)[""].shape == (3, 2)
  with pytest.raises(ConfigError, match=r"pca = 3 and components fitted for 2; fit them for 3\."):
    compress(np.ones((3, 5), np.float32), Variant(pca=3), pca)
  with pytest.raises(ConfigError, match=r"pca = 3 and components fitted for None; fit them for 3\."):
    compress(np.ones((3, 5), np.float32), Variant(pca=3))
  with pytest.raises(DataError, match=r"features of width 7 for principal components of width 5; fit them on"):
    compress(np.ones((3, 7), np.float32), Variant(pca=2), pca)


def test_components_are_kept_in_a_file(tmp_path):
  pca = fit_pca(correlated(20), 2)
  for name in ("a.npz", "b.npz"):
    pca.save(tmp_path / name)
  found = load_pca(tmp_path / "a.npz")
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
  assert found.fingerprint == pca.fingerprint and found.explained == pca.explained
  assert Pca(pca.mean, -pca.basis, pca.explained).fingerprint != pca.fingerprint


class Payload:
  def __reduce__(self):
    return exec, ("raise SystemExit('a payload ran')",)


def npz(compression: int = zipfile.ZIP_STORED, **arrays: object) -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", compression) as archive:
    for name, array in arrays.items():
      content = io.BytesIO()
      if isinstance(array, bytes):
        content.write(array)
      else:
        np.lib.format.write_array(content, np.asanyarray(array))
      archive.writestr(f"{name}.npy", content.getvalue())
  return file.getvalue()


MEAN, BASIS, EXPLAINED = np.zeros(5, np.float32), np.zeros((5, 2), np.float32), np.float64(1)
HUGE = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + (
  b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1024), }".ljust(117) + b"\n"
)  # fmt: skip


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "can't be read as principal components"),
    (b"\x93NUMPY" + bytes(100), "can't be read as principal components"),
    (pickle.dumps(Payload()), "can't be read as principal components"),
    (npz(mean=np.array([Payload()])), "can't be read as principal components .*allow_pickle=False"),
    (npz(mean=HUGE, basis=BASIS, explained=EXPLAINED), "can't be read as principal components"),
    (npz(mean=MEAN), "can't be read as principal components .*basis"),
    (npz(zipfile.ZIP_DEFLATED, mean=np.zeros(10**7)), "can't be read as .*its entries are compressed"),
    (npz(mean=MEAN.astype(float), basis=BASIS, explained=EXPLAINED), "a mean float64 .5. and a basis float32 .5, 2."),
    (npz(mean=MEAN, basis=BASIS.T, explained=EXPLAINED), r".*a basis float32 .2, 5. are no principal components"),
    (npz(mean=MEAN + np.nan, basis=BASIS, explained=EXPLAINED), "holds values that are not finite numbers"),
    (npz(mean=MEAN, basis=BASIS, explained=np.array("all")), "holds values that are not finite numbers"),
    (npz(mean=MEAN, basis=BASIS, explained=np.ones(2)), "holds values that are not finite numbers"),
  ],
)
def test_a_file_that_holds_no_components_is_refused_and_nothing_in_it_runs(tmp_path, content, reason):
  path = tmp_path / "pca.npz"
  path.write_bytes(content)
  with pytest.raises(DataError, match=rf"pca\.npz:? {reason}"):
    load_pca(path)


def test_a_changed_bit_of_the_components_is_found(tmp_path):
  path = tmp_path / "pca.npz"
  fit_pca(correlated(20), 2).save(path)
  content = bytearray(path.read_bytes())
  content[content.index(b"\n") + 5] ^= 1
  path.write_bytes(content)
  with pytest.raises(DataError, match="CRC"):
    load_pca(path)


def test_absent_components_are_named(tmp_path):
  with pytest.raises(DataError, match=r"pca\.npz does not exist; fit the principal components first\."):
    load_pca(tmp_path / "pca.npz")


def test_features_without_tokens_stay_as_they_are():
  assert stored_shape((2, 4, 8), Variant(tokens=1)) == (2, 1, 8)
  assert stored_shape((2, 6), Variant(tokens=1)) == (2, 6)
  assert stored_shape((2, 4, 8), Variant(tokens=1, pca=3)) == (2, 1, 3)
  segments = np.arange(12, dtype=np.float32).reshape(2, 6)
  assert pool_features(segments, 1) is segments
  assert pool_features(segments.reshape(2, 2, 3), 1).tolist() == [[[1.5, 2.5, 3.5]], [[7.5, 8.5, 9.5]]]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_the_parts_of_a_stream_are_found_by_its_names(precision):
  parts = compress(np.ones((2, 3), np.float32), Variant(precision=precision))
  found = parts_of("motion", name_parts("motion", parts) | {"semantic": np.zeros(1)})
  assert found.keys() == parts.keys() and all((found[name] == parts[name]).all() for name in parts)
