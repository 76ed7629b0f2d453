"""The network: its definition, its optimisation and its counts. Works on tensors only."""
