"""Bytes to pixels: decoding, the pixel arithmetic, and its twin as a TensorFlow graph."""
