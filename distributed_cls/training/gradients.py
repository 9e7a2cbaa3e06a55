"""What all replicas decide about their gradients together, so that they take the same step."""

import tensorflow as tf


def overflow_together(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Gradients that are NaN on every replica once they overflow on one.

    The loss-scaling optimizer skips such a step, and looks at its own replica's gradients alone: ranks that skip and
    ranks that do not would wait for each other in the next all-reduce.
    """
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    context = tf.distribute.get_replica_context()
    overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, 1.0 - tf.cast(finite, tf.float32))
    factor = tf.where(overflows > 0, float("nan"), 1.0)
    return [gradient * tf.cast(factor, gradient.dtype) for gradient in gradients]


def clip_together(gradients: list[tf.Tensor], limit: tf.Tensor) -> list[tf.Tensor]:
    """Gradients whose sum over all replicas has at most the global norm ``limit`` (Pascanu et al. 2013).

    The norm is that of the whole batch's gradient, so the replicas add up theirs first; the optimizer, which adds them
    up once more, is given equal parts of the result. With a scaled loss the limit has to be scaled alike.
    """
    context = tf.distribute.get_replica_context()
    whole = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    clipped, _ = tf.clip_by_global_norm(whole, limit)
    return [gradient / context.num_replicas_in_sync for gradient in clipped]
