"""One rank of a run: input, loop, checkpoint, metrics. TensorFlow; never Spark."""
