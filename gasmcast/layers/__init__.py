"""What backbones and fusion share."""
