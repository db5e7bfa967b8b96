"""Variables with the values of the recipe in reference.py."""

import tensorflow.compat.v1 as tf

import reference
from training import checkpoints


def start(session, named=lambda name: name):
    """Gives every variable of the default graph the value that its name determines.

    `named` maps a variable's name to the name that its value is drawn by.
    """
    session.run(tf.global_variables_initializer())
    checkpoints.assign(
        session,
        {v: reference.variable(named(v.op.name), v.shape.as_list()) for v in tf.global_variables()},
    )
