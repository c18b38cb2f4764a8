"""The hypothesis that a trained model is itself an optimiser, with an objective of its own."""
