"""The pages of job count, from made-up numbers."""

from gasmcast.reports.parameters import markdown, notes

PART = {"trainable": 0, "frozen": 0, "buffers": 0}
RESULT = {
  "title": "Parameters of a small model",
  "parts": {"backbone": PART | {"frozen": 2_000_000, "buffers": 64}, "head": PART | {"trainable": 1_234}},
  "all": {"trainable": 1_234, "frozen": 2_000_000, "buffers": 64},
  "training_only": {"auxiliary_0": PART | {"trainable": 1_000}},
  "budget": 5_000,
  "bytes": {
    "training": {"parameters": 8_008_936, "buffers": 256, "gradients": 8_936, "optimizer": 17_880, "all": 8_036_008},
    "inference": {"float32": 8_005_192, "bfloat16": 4_002_596},
  },
  "meta": {"command": "python launch/main.py --job count"},
}


def test_the_page():
  assert markdown(RESULT) == (
    """# Parameters of a small model

| part | trainable | frozen | buffers |
|---|---:|---:|---:|
| backbone | 0 | 2,000,000 | 64 |
| head | 1,234 | 0 | 0 |
| all | 1,234 | 2,000,000 | 64 |
| auxiliary_0 | 1,000 | 0 | 0 |

| memory | bytes |  |
|---|---:|---:|
| training: parameters | 8,008,936 | 8.0 MB |
| training: buffers | 256 | 256 bytes |
| training: gradients of the trainable ones | 8,936 | 8.9 kB |
| training: state of the optimiser | 17,880 | 17.9 kB |
| training: all | 8,036,008 | 8.0 MB |
| inference: all, in float32 | 8,005,192 | 8.0 MB |
| inference: all, in bfloat16 | 4,002,596 | 4.0 MB |

- Parameters: 2,001,234, of which 1,234 trainable. With 64 buffers (batch statistics): 2,001,298.
- Budget of trainable parameters: 5,000, kept.
- Auxiliary heads: 1,000 more parameters, for training alone; not in the sums, the budget and inference.
- Activations are not in the bytes: they grow with the batch, and the compiler decides how many are kept.

    python launch/main.py --job count
"""
  )


def test_no_budget_and_no_auxiliary_heads():
  assert notes(RESULT | {"budget": 0, "training_only": {}})[1:] == [
    "Budget of trainable parameters: none (config.model.max_trainable = 0).",
    "Activations are not in the bytes: they grow with the batch, and the compiler decides how many are kept.",
  ]
