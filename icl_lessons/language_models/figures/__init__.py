"""The figures of the experiments of this room; each takes a result and nothing else."""
