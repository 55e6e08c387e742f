"""The axis letters of every docstring and jaxtyping annotation, in one place.

    B  batch                      K  attention heads
    T  time: frames or segments   H  image height
    N  tokens of one frame        W  image width
    D  feature width              C  image channels, or classes where an array holds scores

A shape is written `[B, T, N, D]`. Frames on the host are uint8 `[B, T, H, W, 3]` in RGB order.
"""
