"""What joins the two streams: graph attention in each, then layers in which they exchange what they know."""
