"""Classify folders of photos with Inception V3, and measure how well."""

__version__ = "0.1.0"
