"""The hypothesis that a context acts as a low-rank change of the weights that read it."""
