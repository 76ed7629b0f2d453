"""Rows only: no torch, no pixels."""
