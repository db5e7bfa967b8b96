"""Makes the .pkl files in this folder, in the form of the authors' released files.

It runs on Python 2.7 with dill 0.3.1.1 or 0.3.5.1:

    python2.7 tests/config/authors/make_pickles.py

The modules have the names and the structure of the authors' modules, but none of their content.
"""

import importlib
import os
import shutil
import sys
import tempfile

import dill

MODULES = {
    'Alignments/alignment.py': """
class AlignmentBase(object):
    def __init__(self, **options):
        self.__name__ = type(self).__name__
        for name, value in options.items():
            setattr(self, name, value)
"""
    + ''.join(
        f'class {name}(AlignmentBase):\n    pass\n'
        for name in (
            'Feedback',
            'Symmetric',
            'Activation',
            'Mirror',
            'Information',
            'Kolen_Pollack',
        )
    ),
    'tfutils/imagenet_data.py': """
class ImageNet(object):
    def __init__(self, image_dir, prep_type, resize):
        self.image_dir, self.prep_type, self.resize = image_dir, prep_type, resize
    def dataset_func(self, is_train, batch_size, q_cap=51200, file_pattern='train-*'):
        return self.image_dir
""",
    'tfutils/optimizer.py': 'class ClipOptimizer(object):\n    pass\n',
    'Models/resnet_model_google.py': 'def google_resnet_func(inputs, **options):\n    return '
    'inputs\n',
    'Models/basic.py': 'def fc(inputs, **options):\n    return inputs\n',
    'Metrics/losses.py': 'def loss_metric():\n    pass\ndef mean_loss_with_reg():\n    pass\ndef '
    'category_loss():\n    pass\n',
    'Metrics/functions.py': 'def metric_fn():\n    pass\ndef concat_agg_func():\n    pass\ndef '
    'online_agg_append():\n    pass\n',
    'rate_scheduler.py': """
def build_schedule(loss_rate=1.0, alignment_rate=1.0, delay_epochs=None, alternate_step_freq=None,
                   constant_rate=True, num_batches_per_epoch=1):
    def rate_schedule(global_step):
        return (loss_rate, alignment_rate, delay_epochs, alternate_step_freq, constant_rate,
                num_batches_per_epoch)
    return rate_schedule
def build_alignment_coefficient_schedule(value=1.0, start=0.0, stop=1.0, cycle=0, schedule_rate=0.0,
                                         schedule_type=None, num_batches_per_epoch=1,
                                         train_epochs=1):
    def alignment_coefficient_schedule():
        return (value, start, stop, cycle, schedule_rate, schedule_type, num_batches_per_epoch,
                train_epochs)
    return alignment_coefficient_schedule
""",
    'learning_rate.py': """
def build_lr_schedule(learning_rate=0.1, num_batches_per_epoch=1, train_batch_size=128,
                      base_batch_size=256, rescale_lr=False, constant_lr=True, warmup_epochs=None,
                      alternate_step_freq=None, delay_epochs=None, delay_epochs_offset=None):
    def learning_rate_schedule(global_step):
        return (learning_rate, num_batches_per_epoch, train_batch_size, base_batch_size, rescale_lr,
                constant_lr, warmup_epochs, alternate_step_freq, delay_epochs, delay_epochs_offset)
    return learning_rate_schedule
def drop_learning_rate(global_step, boundary_step, next_lr, prev_lr=None):
    pass
def combined_lr(global_step, lr_params):
    pass
""",
    'custom_optimizers.py': """
class SWATSOptimizer(object):
    pass
def build_noisy_optimizer(optimizer_class, distribution, variance):
    class NoisyOptimizer(optimizer_class):
        def __init__(self, **options):
            optimizer_class.__init__(self, **options)
            self.distribution, self.variance = distribution, variance
    return NoisyOptimizer
""",
    'tensorflow/python/training/momentum.py': 'class MomentumOptimizer(object):\n    pass\n',
    'tensorflow/python/training/adam.py': 'class AdamOptimizer(object):\n    pass\n',
}
BATCHES = 1281167 // 256
VIEW = dict(
    update_forward=False,
    input_distribution=None,
    input_stddev=1.0,
    use_bias_forward=True,
    use_bias_backward=True,
    activation_fn_override=None,
    activation_forward=False,
    activation_backward=False,
    batch_center_backward_input=False,
    center_input=False,
    normalize_input=False,
    batch_center_forward_output=False,
    center_forward_output=False,
    normalize_forward_output=False,
    center_backward_output=False,
    normalize_backward_output=False,
)


def coefficient(value, **options):
    build = module('rate_scheduler').build_alignment_coefficient_schedule
    return build(value=value, num_batches_per_epoch=BATCHES, train_epochs=90.0, **options)


def module(name):
    return importlib.import_module(name)


def params(rule, options):
    alignment, data = module('Alignments.alignment'), module('tfutils.imagenet_data')
    losses, metrics, lr = (
        module('Metrics.losses'),
        module('Metrics.functions'),
        module('learning_rate'),
    )
    momentum = module('tensorflow.python.training.momentum').MomentumOptimizer
    rates = dict(num_batches_per_epoch=BATCHES)
    build = module('rate_scheduler').build_schedule

    def images(**options):
        return dict(options, func=data.ImageNet('/mnt/imagenet', 'resnet', None).dataset_func)

    model = {
        'func': module('Models.resnet_model_google').google_resnet_func,
        'model_prefix': 'model_0',
        'num_classes': 1000,
        'layers_list': [],
        'num_gpus': 1,
        'devices': ['/gpu:0'],
        'tpu_name': None,
        'gcp_project': None,
        'tpu_zone': None,
        'num_shards': 8,
        'iterations_per_loop': 100,
        'tf_layers': False,
        'resnet_size': 18,
        'use_v2': False,
        'bn_trainable': True,
        'regularize_weights': True,
    }
    if rule:
        model['alignment'] = getattr(alignment, rule)(**dict(VIEW, **options))
    return {
        'save_params': {
            'host': 'localhost',
            'port': 29101,
            'dbname': 'theirs',
            'collname': 'resnet18',
            'exp_id': str(rule and rule.lower()) + '_tuned',
            'do_save': True,
            'save_valid_freq': 2 * BATCHES,
            'save_filters_freq': 2 * BATCHES,
            'cache_filters_freq': 2 * BATCHES,
            'cache_dir': '/mnt/caches',
        },
        'load_params': {'do_restore': False, 'query': None},
        'model_params': model,
        'train_params': {
            'targets': {'func': losses.loss_metric, 'target': 'labels', 'rate': build(**rates)},
            'data_params': images(is_train=True, batch_size=256),
            'num_steps': 90 * BATCHES,
            'thres_loss': float('inf'),
            'validate_first': False,
            'include_global_step': False,
        },
        'loss_params': {
            'targets': 'labels',
            'agg_func': losses.mean_loss_with_reg,
            'agg_func_kwargs': {'rate': build(**rates)},
            'loss_per_case_func': losses.category_loss,
        },
        'learning_rate_params': {
            'func': lr.build_lr_schedule(
                learning_rate=0.125,
                num_batches_per_epoch=BATCHES,
                train_batch_size=256,
                base_batch_size=256,
                rescale_lr=True,
                constant_lr=False,
                warmup_epochs=6,
            )
        },
        'optimizer_params': {
            'optimizer': module('tfutils.optimizer').ClipOptimizer,
            'optimizer_class': momentum,
            'optimizer_kwargs': {'momentum': 0.9, 'use_nesterov': True},
            'clip': False,
            'clipping_value': 1.0,
            'clipping_method': 'norm',
        },
        'validation_params': {
            'topn_val': {
                'data_params': images(
                    is_train=False, batch_size=128, q_cap=128, file_pattern='validation-*'
                ),
                'targets': {'func': metrics.metric_fn, 'num_classes': 1000},
                'num_steps': 390,
                'agg_func': metrics.concat_agg_func,
                'online_agg_func': metrics.online_agg_append,
            }
        },
        'skip_check': True,
    }


def symmetric():
    return params(
        'Symmetric',
        dict(
            alpha=coefficient(0.003),
            beta=coefficient(
                0.006, start=0.25, stop=0.75, schedule_rate=-0.5, schedule_type='exponential'
            ),
        ),
    )


def wm_tpe_ad():
    """Mirror on noise with a second optimiser, manual drops and an unknown key."""
    lr, adam = module('learning_rate'), module('tensorflow.python.training.adam').AdamOptimizer
    result = params(
        'Mirror',
        dict(
            alpha=coefficient(0.01),
            beta=coefficient(0.02),
            input_distribution='normal',
            input_stddev=0.5,
            center_forward_output=True,
        ),
    )
    optimizer = result['optimizer_params']
    optimizer['optimizer_class'] = [optimizer['optimizer_class'], adam]
    optimizer['optimizer_kwargs'] = [optimizer['optimizer_kwargs'], {}]
    result['learning_rate_params'] = {
        'func': lr.combined_lr,
        'lr_params': [
            {
                'func': lr.drop_learning_rate,
                'boundary_step': 1000,
                'next_lr': 0.0125,
                'prev_lr': 0.125,
            },
            {'func': lr.build_lr_schedule(learning_rate=0.0625, num_batches_per_epoch=BATCHES)},
        ],
    }
    result['loss_params']['agg_func_kwargs']['return_list'] = True
    result['model_params']['surprise'] = os.getcwd
    return result


def wm_tpe_ad_ops():
    """Like the one above, with noise on the updates of the second optimiser."""
    result = wm_tpe_ad()
    classes = result['optimizer_params']['optimizer_class']
    classes[1] = module('custom_optimizers').build_noisy_optimizer(classes[1], 'normal', 0.25)
    return result


def information_tpe():
    return params(
        'Information',
        dict(
            alpha=coefficient(0.1),
            beta=coefficient(0.2),
            gamma=coefficient(0.3),
            reconstruction_reversal=True,
            reconstruction_amp=False,
            use_sparse=True,
            activation_forward=True,
            activation_fn_override='relu',
        ),
    )


def backprop():
    return params(None, {})


def main():
    folder = tempfile.mkdtemp()
    try:
        for path, text in MODULES.items():
            path = os.path.join(folder, path)
            if not os.path.isdir(os.path.dirname(path)):
                os.makedirs(os.path.dirname(path))
            with open(path, 'w') as file:
                file.write(text)
        for parent, _, _ in os.walk(folder):
            open(os.path.join(parent, '__init__.py'), 'w').close()
        sys.path.insert(0, folder)
        here = os.path.dirname(os.path.abspath(__file__))
        older = (
            dill.__version__ == '0.3.1.1'
        )  # this version cannot write a class that a function has made
        for make in (symmetric, wm_tpe_ad, information_tpe, backprop) + (
            () if older else (wm_tpe_ad_ops,)
        ):
            with open(
                os.path.join(here, f'{make.__name__}_dill{dill.__version__}.pkl'), 'wb'
            ) as file:
                dill.dump({'params': make()}, file)
    finally:
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
