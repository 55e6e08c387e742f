"""What joins the two streams: graph attention in each, then progressive bottleneck cross-attention."""
