"""The Spark session, its stages, and what must hold before a barrier stage starts. Never TensorFlow."""
