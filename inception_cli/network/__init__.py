"""Tensors only: the network, its counts, its optimisation."""
