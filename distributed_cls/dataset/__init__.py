"""Images in, verified TFRecord shards and a manifest out. NumPy, OpenCV and Spark; never TensorFlow."""
