import numpy as np

from gasmcast.fusion.metadata import lattice, offset_index, table_size


def test_patches_of_a_frame():
  nodes = lattice(14, 14)
  assert (nodes.size, nodes.coordinates.shape, nodes.offsets.shape) == (196, (196, 2), (196, 196, 2))
  np.testing.assert_array_equal(nodes.coordinates[15], [1, 1])  # row-major
  np.testing.assert_allclose(nodes.centres[15], [1.5 / 14, 1.5 / 14], rtol=1e-6)
  assert table_size((14, 14), "signed") == 27 * 27
  assert table_size((14, 14), "absolute") == 14 * 14


def test_segments_of_a_clip():
  nodes = lattice(8)
  np.testing.assert_allclose(nodes.centres[:, 0], [(2 * s + 1) / 16 for s in range(8)])
  assert table_size((8,), "signed") == 15
  np.testing.assert_array_equal(nodes.signed_index[0], [7, 6, 5, 4, 3, 2, 1, 0])  # -s + 7


def test_space_time_cells():
  nodes = lattice(8, 7, 7)
  assert nodes.size == 392
  np.testing.assert_array_equal(nodes.coordinates[49 + 7 + 2], [1, 1, 2])
  assert table_size((8, 7, 7), "signed") == 15 * 13 * 13


def test_signed_offsets_by_hand():
  """A 2 x 3 grid has a 3 x 5 table, (row offset + 1) * 5 + column offset + 2."""
  index = offset_index(lattice(2, 3), "signed")
  assert index[0, 0] == 1 * 5 + 2
  assert index[0, 5] == 0  # from (0, 0) to (1, 2): offset (-1, -2)
  assert index[5, 0] == 14
  assert index[1, 3] == 0 * 5 + 1 + 2  # from (0, 1) to (1, 0): offset (-1, +1)


def test_equal_indices_are_equal_offsets():
  nodes = lattice(3, 4)
  for kind, keys in (("signed", nodes.offsets), ("absolute", np.abs(nodes.offsets))):
    index = offset_index(nodes, kind)
    by_index = {}
    for pair in np.ndindex(index.shape):
      assert by_index.setdefault(index[pair], tuple(keys[pair])) == tuple(keys[pair])
    assert len(by_index) == len(set(by_index.values())) == table_size((3, 4), kind)


def test_absolute_offsets_can_not_tell_a_mirror_image():
  nodes = lattice(4, 4)
  mirrored = np.arange(16).reshape(4, 4)[:, ::-1].ravel()
  absolute, signed = (offset_index(nodes, kind) for kind in ("absolute", "signed"))
  np.testing.assert_array_equal(absolute, absolute[np.ix_(mirrored, mirrored)])
  assert (signed != signed[np.ix_(mirrored, mirrored)]).any()


def test_distances():
  nodes = lattice(14, 14)
  knight = nodes.coordinates.tolist().index([1, 2])
  assert nodes.chebyshev[0, knight] == 2
  np.testing.assert_allclose(nodes.euclidean[0, knight], 5**0.5, rtol=1e-6)


def test_within_counts_a_corner_an_edge_and_the_middle():
  degrees = lattice(3, 3).within((1, 1)).sum(1).reshape(3, 3)
  np.testing.assert_array_equal(degrees, [[4, 6, 4], [6, 9, 6], [4, 6, 4]])
  np.testing.assert_array_equal(lattice(4).within((2,))[0], [True, True, True, False])
  cell = lattice(3, 3, 3).within((2, 1, 1)).sum(1).reshape(3, 3, 3)[0, 0, 0]
  assert cell == 3 * 2 * 2
