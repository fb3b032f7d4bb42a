"""What the weights are: transformer, codec, text encoder, and the memory they read."""
