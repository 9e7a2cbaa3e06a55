"""N ranks of a run: stage, rendezvous, child processes, logs, restarts. Spark; never TensorFlow."""
