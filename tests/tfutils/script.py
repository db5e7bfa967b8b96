"""A typical tfutils script with a user's own model, data and functions.

Only its import of tfutils has been changed.

    python tests/tfutils/script.py --port 29029 --exp_id mine [--steps 60] [--test]
"""

import argparse

import numpy as np

from training.tfutils import base, optimizer, utils
import tensorflow.compat.v1 as tf

WIDTH, CLASSES, IMAGES = 11, 3, 210


def points(seed):
    """Returns points of a circle bent into WIDTH dimensions, labelled by their third of it."""
    random = np.random.RandomState(seed)
    angle = random.uniform(-np.pi, np.pi, IMAGES)
    x = np.concatenate(
        [np.outer(np.cos(angle), np.arange(6)), np.outer(np.sin(angle), np.arange(5))], axis=1
    )
    return (x + 0.1 * random.randn(IMAGES, WIDTH)).astype(np.float32), (
        (angle + np.pi) * CLASSES / (2 * np.pi)
    ).astype(np.int64)


def data(batch_size, group):
    images, labels = points(seed=0 if group == 'train' else 1)
    dataset = tf.data.Dataset.from_tensor_slices({'images': images, 'labels': labels}).repeat()
    if group == 'train':
        dataset = dataset.shuffle(IMAGES, seed=5)
    return tf.data.make_one_shot_iterator(dataset.batch(batch_size, drop_remainder=True)).get_next()


def two_layers(inputs, hidden, train=True, seed=0, decay=1e-4, **kwargs):
    x, cfg = inputs['images'], {}
    for name, units, activation in (
        ('hidden1', hidden, tf.nn.tanh),
        ('softmax_linear', CLASSES, tf.identity),
    ):
        with tf.variable_scope(name):
            weights = tf.get_variable(
                'weights',
                [x.shape[-1], units],
                tf.float32,
                tf.truncated_normal_initializer(stddev=0.2, seed=seed),
            )
            x = activation(
                tf.matmul(x, weights)
                + tf.get_variable('bias', [units], initializer=tf.zeros_initializer())
            )
            tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, decay * tf.nn.l2_loss(weights))
            cfg[name] = {'units': units}
    return x, cfg


def loss_and_top1(inputs, outputs, target):
    return {
        'loss': tf.losses.sparse_softmax_cross_entropy(inputs[target], outputs),
        'top1': tf.cast(tf.nn.in_top_k(outputs, inputs[target], 1), tf.float32),
    }


def first_image(inputs, outputs):
    return {'first_image': inputs['images'][0], 'largest': tf.reduce_max(outputs, axis=1)}


def online_agg(agg_res, res, step):
    if agg_res is None:
        agg_res = {k: [] for k in res}
    for k, v in res.items():
        agg_res[k].append(np.mean(v))
    return agg_res


def parameters(port, exp_id, cache_dir, steps):
    return {
        'save_params': {
            'host': 'localhost',
            'port': port,
            'dbname': 'tfutils-test',
            'collname': 'points',
            'exp_id': exp_id,
            'save_metrics_freq': 10,
            'save_valid_freq': 20,
            'save_filters_freq': 40,
            'cache_filters_freq': 20,
            'cache_dir': cache_dir,
            'save_to_gfs': ['first_image'],
        },
        'model_params': {'func': two_layers, 'hidden': 9, 'seed': 3, 'devices': ['/gpu:0']},
        'train_params': {
            'data_params': {'func': data, 'batch_size': 30, 'group': 'train'},
            'targets': {'func': first_image},
            'num_steps': steps,
            'thres_loss': 1000,
        },
        'loss_params': {
            'targets': 'labels',
            'agg_func': tf.reduce_mean,
            'loss_per_case_func': tf.nn.sparse_softmax_cross_entropy_with_logits,
        },
        'learning_rate_params': {
            'func': tf.train.exponential_decay,
            'learning_rate': 0.05,
            'decay_rate': 0.95,
            'decay_steps': IMAGES // 30,
            'staircase': True,
        },
        'optimizer_params': {
            'optimizer': optimizer.ClipOptimizer,
            'optimizer_class': tf.train.MomentumOptimizer,
            'clip': True,
            'optimizer_kwargs': {'momentum': 0.9},
        },
        'validation_params': {
            'topn': {
                'data_params': {'func': data, 'batch_size': 70, 'group': 'test'},
                'targets': {'func': loss_and_top1, 'target': 'labels'},
                'num_steps': IMAGES // 70,
                'online_agg_func': online_agg,
                'agg_func': lambda x: {k: np.mean(v) for k, v in x.items()},
            },
            'plain': {
                'data_params': {'func': data, 'batch_size': 35, 'group': 'test'},
                'num_steps': IMAGES // 35,
                'agg_func': utils.mean_dict,
            },
        },
        'skip_check': True,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--port', type=int, default=29029)
    parser.add_argument('--exp_id', default='training0')
    parser.add_argument('--cache_dir')
    parser.add_argument('--steps', type=int, default=50)
    parser.add_argument('--test', action='store_true')
    arguments = parser.parse_args()
    params = parameters(arguments.port, arguments.exp_id, arguments.cache_dir, arguments.steps)
    if not arguments.test:
        base.train_from_params(**params)
        return
    for name in ('train_params', 'learning_rate_params', 'optimizer_params', 'loss_params'):
        params.pop(name)
    params['load_params'] = params.pop('save_params')
    params['load_params'] = {
        k: params['load_params'][k]
        for k in ('host', 'port', 'dbname', 'collname', 'exp_id', 'cache_dir')
    }
    params['load_params']['query'] = {'step': 40}
    params['save_params'] = {'exp_id': arguments.exp_id + '-valid', 'save_to_gfs': ['loss']}
    base.test_from_params(**params)


if __name__ == '__main__':
    main()
