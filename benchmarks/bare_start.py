"""The other side of the start benchmark: what a training on Spark cannot do without, one after the other, by hand.

``python -m benchmarks.bare_start``: a plain Spark session on ``local[2]``, TensorFlow and Keras, the first training
step of the network in ``keras_cnn``. Prints the seconds of each as JSON. It shares no code with the framework.
"""

import json
import os
import time

SIZE, CLASSES, CHANNELS, BATCH = 32, 10, 1, 128


def main() -> None:
    began = time.perf_counter()
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.sparkContext.parallelize(range(2), 2).count()
    session = time.perf_counter()
    import keras
    import tensorflow as tf

    from benchmarks.keras_cnn import cnn

    imported = time.perf_counter()
    model = cnn(keras, SIZE, CLASSES, CHANNELS)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(pixels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(tf.cast(pixels, tf.float32), training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    step(tf.zeros((BATCH, SIZE, SIZE, CHANNELS), tf.uint8), tf.zeros((BATCH,), tf.int64)).numpy()
    stepped = time.perf_counter()
    parts = {"Spark": session - began, "TensorFlow": imported - session, "first step": stepped - imported}
    print(json.dumps(parts), flush=True)
    spark.stop()
    os._exit(0)  # TensorFlow's threads and Spark's gateway end at any speed


if __name__ == "__main__":
    main()
