"""The experiments of this room: one module for each idea."""
