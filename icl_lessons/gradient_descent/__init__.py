"""The hypothesis that in-context learning is gradient descent run inside the forward pass."""
