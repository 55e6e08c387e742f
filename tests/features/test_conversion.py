"""Tables of rules are strict on both sides, and every misfit is told with names and both shapes."""

import tracemalloc

import jax
import ml_dtypes
import numpy as np
import pytest

from gasmcast.core.errors import WeightsError
from gasmcast.features.conversion import (
  Rule,
  choose_layout,
  convert_tensors,
  convolution,
  count_named,
  is_ours,
  linear,
  patches,
  rows,
  shape_for,
  squeeze,
)

LAYOUT = (
  Rule(r"fc(\d)\.weight", r"params/fc_\1/kernel", linear),
  Rule(r"fc(\d)\.bias", r"params/fc_\1/bias"),
  Rule(r"scale", "params/scale"),
  Rule(r"head\.weight", "params/logits/kernel", linear, optional=True),
  Rule(r".*\.num_batches_tracked"),
)
FUSED = (
  Rule(r"qkv", ("params/qkv[0/3]", None, "params/qkv[2/3]"), linear),
  Rule(r"key", "params/qkv[1/3]", linear),
)


def shapes(**wanted) -> dict:
  return {
    f"params/{name.replace('__', '/')}": jax.ShapeDtypeStruct(shape, np.float32) for name, shape in wanted.items()
  }


WANTED = shapes(fc_1__kernel=(3, 2), fc_1__bias=(2,), scale=())
TENSORS = {
  "fc1.weight": np.float32([[1, 2, 3], [4, 5, 6]]),
  "fc1.bias": np.float16([0.5, 1]),
  "scale": np.array(2.0),
  "bn.num_batches_tracked": np.array(7),
}


def refusal(tensors, layout=LAYOUT, wanted=WANTED, **options) -> str:
  with pytest.raises(WeightsError) as caught:
    convert_tensors(tensors, layout, wanted, "net.safetensors does not fit made_up", **options)
  message = str(caught.value)
  assert message.startswith("net.safetensors does not fit made_up: ") and "\n" not in message
  return message.removeprefix("net.safetensors does not fit made_up: ")


@pytest.mark.parametrize(
  ("transform", "shape", "result"),
  [
    (linear, (5, 3), (3, 5)),
    (convolution, (5, 3, 7, 8), (7, 8, 3, 5)),
    (convolution, (5, 3, 2, 7, 8), (2, 7, 8, 3, 5)),
    (patches, (5, 3, 2, 4), (24, 5)),
    (squeeze, (1, 1, 5), (5,)),
    (squeeze, (1, 1), (1,)),
    (rows, (1, 4, 5), (4, 5)),
    (rows, (1, 1, 5), (1, 5)),
  ],
)
def test_transforms_reorder_and_lose_nothing(transform, shape, result):
  tensor = np.arange(np.prod(shape)).reshape(shape)
  changed = transform(tensor)
  assert changed.shape == result
  assert sorted(changed.ravel()) == sorted(tensor.ravel())


def test_a_patch_kernel_is_in_the_order_of_a_flattened_patch():
  """Output channel 0 of [O=1, I=2, h=1, w=2]: channel 0 holds 0, 1 and channel 1 holds 2, 3."""
  np.testing.assert_array_equal(patches(np.arange(4).reshape(1, 2, 1, 2))[:, 0], [0, 2, 1, 3])


def test_tensors_become_variables_in_float32():
  filled = convert_tensors(TENSORS, LAYOUT, WANTED, "net")
  assert list(filled) == list(WANTED)
  np.testing.assert_array_equal(filled["params/fc_1/kernel"], [[1, 4], [2, 5], [3, 6]])
  np.testing.assert_array_equal(filled["params/fc_1/bias"], [0.5, 1])
  assert filled["params/scale"].shape == () and filled["params/scale"] == 2
  assert {array.dtype for array in filled.values()} == {np.dtype(np.float32)}
  assert all(array.flags.c_contiguous for array in filled.values())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, ">f4"])
def test_other_floating_types_are_widened_or_narrowed(dtype):
  filled = convert_tensors(TENSORS | {"fc1.bias": np.array([0.5, 1], dtype)}, LAYOUT, WANTED, "net")
  np.testing.assert_array_equal(filled["params/fc_1/bias"], np.float32([0.5, 1]), strict=True)


def test_what_is_given_is_never_shared():
  given = {name: np.array(tensor) for name, tensor in TENSORS.items()}
  filled = convert_tensors(given, LAYOUT, WANTED, "net")
  assert not any(np.shares_memory(a, b) for a in given.values() for b in filled.values())


def test_views_of_any_order_lists_and_arrays_of_jax_are_taken():
  weight = np.float32([[1, 2, 3], [4, 5, 6]])
  for same in (np.asfortranarray(weight), weight[:, ::-1][:, ::-1], weight.tolist(), jax.numpy.asarray(weight)):
    filled = convert_tensors(TENSORS | {"fc1.weight": same}, LAYOUT, WANTED, "net")
    np.testing.assert_array_equal(filled["params/fc_1/kernel"], weight.T)


def test_slices_of_one_variable_come_from_several_tensors():
  tensors = {"qkv": np.arange(12.0).reshape(6, 2), "key": np.float64([[20, 21], [22, 23]])}
  filled = convert_tensors(tensors, FUSED, shapes(qkv=(2, 6)), "net")
  np.testing.assert_array_equal(filled["params/qkv"], [[0, 2, 20, 22, 8, 10], [1, 3, 21, 23, 9, 11]])


def test_our_own_names_fill_themselves():
  ours = {"params/fc_1/kernel": np.ones((3, 2)), "params/fc_1/bias": np.ones(2), "params/scale": np.array(3.0)}
  assert is_ours(ours) and not is_ours(TENSORS) and not is_ours({}) and not is_ours(ours | {"step": 1})
  assert convert_tensors(ours, LAYOUT, WANTED, "net")["params/scale"] == 3
  assert refusal(ours | {"params/fc_2/bias": np.ones(2)}).startswith("1 tensor is unknown: params/fc_2/bias [2]. Name")


def test_an_optional_target_is_left_out_or_filled():
  tensors = TENSORS | {"head.weight": np.ones((4, 3))}
  assert list(convert_tensors(tensors, LAYOUT, WANTED, "net")) == list(WANTED)
  with_head = convert_tensors(tensors, LAYOUT, WANTED | shapes(logits__kernel=(3, 4)), "net")
  assert with_head["params/logits/kernel"].shape == (3, 4)


def test_the_layout_that_names_most_is_chosen():
  assert choose_layout(list(TENSORS), (FUSED, LAYOUT)) is LAYOUT
  assert choose_layout(["qkv"], (LAYOUT, FUSED)) is FUSED
  assert choose_layout(["?"], (LAYOUT, FUSED)) is LAYOUT
  assert count_named(list(TENSORS), LAYOUT) == 4 and count_named(list(TENSORS), FUSED) == 0


def test_the_published_shape_behind_a_variable():
  assert shape_for("params/fc_1/kernel", TENSORS, LAYOUT) == (2, 3)
  assert shape_for("params/fc_2/kernel", TENSORS, LAYOUT) is None
  assert shape_for("params/a", {"params/a": np.ones((4, 5))}, LAYOUT) == (4, 5)
  assert shape_for("params/fc_1/bias", {"fc1.bias": [1.0, 2.0]}, LAYOUT) == (2,)


def test_tensors_left_over_on_either_side_are_told():
  assert refusal(TENSORS | {"neck": np.ones((2, 5))}) == (
    "1 tensor is unknown: neck [2, 5]. Name the network that these weights belong to (its size too), or get the "
    "weights of this one."
  )
  assert refusal({"scale": np.array(1.0)}) == (
    "2 variables are missing: params/fc_1/kernel [3, 2], params/fc_1/bias [2]. The file is not whole: get it again, or "
    "name the network that it was saved from."
  )
  assert "fc2.bias [2] (for params/fc_2/bias, which this network does not have)" in refusal(
    TENSORS | {"fc2.bias": np.ones(2)}
  )


def test_no_more_than_four_of_a_kind_are_named():
  assert "6 tensors are unknown: n0 [1], n1 [1], n2 [1], n3 [1] and 2 more." in refusal(
    TENSORS | {f"n{i}": np.ones(1) for i in range(6)}
  )


def test_all_problems_are_in_one_message():
  message = refusal({"neck": np.ones(1), "scale": np.array(np.nan), "fc1.bias": np.ones(3)})
  assert [part.split(":")[0] for part in message.split("; ")] == [
    "1 tensor is unknown",
    "1 variable is missing",
    "1 tensor is not finite",
    "1 tensor is of another shape",
  ]


def test_a_wrong_shape_is_told_as_published_and_as_ours():
  assert refusal(TENSORS | {"fc1.weight": np.ones((2, 5)), "fc1.bias": np.ones(7)}).startswith(
    "2 tensors are of another shape: fc1.weight is [2, 5], which becomes [5, 2], but params/fc_1/kernel is [3, 2], "
    "fc1.bias is [7], but params/fc_1/bias is [2]. Name the network"
  )
  assert "scale is [1], but params/scale is []" in refusal(TENSORS | {"scale": np.ones(1)})


def test_a_tensor_that_a_transform_cannot_take_is_told():
  layout = (Rule("a", "params/a", convolution), Rule("b", "params/b", rows))
  message = refusal({"a": np.ones(3), "b": np.ones((2, 1, 4))}, layout, shapes(a=(1, 1, 3), b=(1, 4)))
  assert "a is [3], which can't become params/a [1, 1, 3] (source: axis 1 is out of bounds" in message
  assert "b is [2, 1, 4], which can't become params/b [1, 4] (cannot reshape array of size 8" in message


def test_a_tensor_that_cannot_be_shared_is_told():
  tensors = {"qkv": np.ones((7, 2)), "key": np.ones((2, 2))}
  assert "qkv is [7, 2], which can't be cut into 3 parts" in refusal(tensors, FUSED, shapes(qkv=(2, 6)))


def test_a_variable_that_is_filled_twice_or_in_part_is_told():
  twice = (*LAYOUT, Rule("gain", "params/scale"))
  assert "1 variable is filled twice: params/scale by scale and gain" in refusal(TENSORS | {"gain": np.ones(())}, twice)
  assert "1 tensor is named by two rules: scale []" in refusal(TENSORS, (*LAYOUT, Rule("sc.*", "params/scale")))
  part = refusal({"key": np.ones((2, 2))}, FUSED, shapes(qkv=(2, 6)))
  assert part.startswith("1 variable is missing: params/qkv [2, 6] (1 part is there of 3). The file is not whole")


class InTraining:
  shape, dtype = (2,), "torch.float32"

  def __array__(self, dtype=None, copy=None):
    raise RuntimeError("Can't call numpy() on Tensor that requires grad.\nUse tensor.detach().numpy() instead.")


@pytest.mark.parametrize(
  ("tensor", "problem"),
  [
    (np.array([1, 2]), "fc1.bias is int64, not one of float16, bfloat16, float32, float64"),
    (np.array([1j, 2]), "fc1.bias is complex128, not one of float16, bfloat16, float32, float64"),
    (
      np.array([1, 2], ml_dtypes.float8_e4m3fn),
      "fc1.bias is float8_e4m3fn, not one of float16, bfloat16, float32, float64",
    ),
    (np.array(["a", "b"]), "fc1.bias is <U1, not one of float16, bfloat16, float32, float64"),
    (None, "fc1.bias is object, not one of float16, bfloat16, float32, float64"),
    (InTraining(), "fc1.bias is torch.float32, which can't be read as an array (Can't call numpy() on Tensor that req"),
  ],
)
def test_another_type_is_told(tensor, problem):
  message = refusal(TENSORS | {"fc1.bias": tensor})
  assert message.startswith(f"1 tensor is of another type: {problem}")
  assert message.endswith("Save the weights in one of these types.")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_in_float32_are_told(value):
  assert refusal(TENSORS | {"fc1.bias": np.array([value, 1])}) == (
    "1 tensor is not finite: fc1.bias [2]. The file is damaged or was saved from a diverged training: get it again."
  )


def test_no_tensors_at_all_are_told():
  assert refusal({}) == "it holds no tensors. Get it again."


def test_a_better_remedy_goes_before_the_general_one():
  assert refusal({"scale": np.ones(())}, find_remedy=lambda: "Use made_up_2.").endswith("[2]. Use made_up_2.")


def test_memory_stays_near_the_size_of_the_variables():
  """Ten kernels of 4 MB in float16, each read when its turn comes: no second set of them is ever there."""
  side, count = 1024, 10

  class Lazy:
    shape, dtype = (side, side), np.dtype(np.float16)

    def __array__(self, dtype=None, copy=None):
      return np.ones(self.shape, np.float16)

  tensors = {f"fc{i}.weight": Lazy() for i in range(count)}
  wanted = shapes(**{f"fc_{i}__kernel": (side, side) for i in range(count)})
  tracemalloc.start()
  filled = convert_tensors(tensors, LAYOUT, wanted, "net")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < sum(array.nbytes for array in filled.values()) * 1.2


def test_jax_uses_the_variables_where_they_lie():
  kernel = convert_tensors(TENSORS, LAYOUT, WANTED, "net")["params/fc_1/kernel"]
  assert kernel.ctypes.data % 64 == 0
  assert jax.device_put(kernel).unsafe_buffer_pointer() == kernel.ctypes.data
