"""Model names in, stock Keras 3 models out."""
