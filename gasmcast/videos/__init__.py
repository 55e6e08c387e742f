"""Video files into batches of frames: decoding, choice of frames, augmentation, the pipeline. Imports no jax."""
