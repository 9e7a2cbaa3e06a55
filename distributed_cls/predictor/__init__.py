"""An exported model, loaded: encoded images in, classes with their probabilities out."""
