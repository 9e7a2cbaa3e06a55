"""Labelled images in, a trained, evaluated and served classifier out, on a Spark cluster."""

__version__ = "0.1.0"
