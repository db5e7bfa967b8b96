"""One of several hosts that train CASES together.

    python host.py TASK HOST:PORT,HOST:PORT OUT CASE ...

It writes a pickle {case: result of tiny.train} to OUT. The variables of every host except the first
start with different values.
"""

import os
import pickle
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(os.path.dirname(HERE)), os.path.dirname(HERE), HERE]

from training import runtime  # noqa: E402, F401 (first: it prepares TensorFlow)

import data  # noqa: E402
import kinds  # noqa: E402
import tiny  # noqa: E402
from alignment.rules import RULES  # noqa: E402
from models import NETWORKS  # noqa: E402
from training import checkpoints  # noqa: E402

SMALL = dict(
    model='small', layers_list=(), dataset='pixels', train_batch_size=12, eval_batch_size=5
)
LENET = dict(SMALL, model='lenet', dataset='large')
PIXELS = tiny.dataset('pixels', image_shape=(9, 11, 3))
LARGE = tiny.dataset('large', image_shape=(32, 33, 1))
SPLIT = dict(cpu_devices=2, gpu='0,1')
# One rule whose backward kernels the task loss trains, and one with an alignment loss.
CLIPPED = [None, 'symmetric', 'kolen_pollack', 'dfa']
# {name: (number of steps, settings of each host)}
CASES = {f'step of {rule}': (1, tiny.moving_settings(rule)) for rule in [None] + sorted(RULES)}
CASES.update(
    {f'clipped step of {rule}': (1, dict(tiny.clipped_settings(rule), **SPLIT)) for rule in CLIPPED}
)
CASES.update(
    {
        'two devices each': (1, dict(tiny.moving_settings('symmetric'), **SPLIT)),
        'parts': (
            4,
            dict(tiny.moving_settings('information'), learning_rate=0.2, minibatch_size=4, **SPLIT),
        ),
        'several steps a call': (
            4,
            dict(tiny.moving_settings('mirror'), learning_rate=0.2, iterations_per_loop=3, **SPLIT),
        ),
        'noise': (
            2,
            dict(
                alignment='mirror',
                learning_rate=0.2,
                input_distribution='normal',
                minibatch_size=4,
                **SPLIT,
            ),
        ),
        'decay, drop and a frozen layer': (
            4,
            dict(
                alignment='symmetric',
                layers_list=(7, 5),
                optimizer='momentum',
                nesterov=False,
                learning_rate=0.5,
                weight_decay=0.1,
                drop_epochs=(1,),
                freeze=('dense1',),
            ),
        ),
        'lenet': (1, dict(LENET, alignment='pfa', learning_rate=0.1)),
        'lenet, undivided error': (
            1,
            dict(LENET, alignment='dfa', undivided_error=True, learning_rate=0.1),
        ),
        'float16': (1, dict(tiny.moving_settings('symmetric'), precision='float16')),
        'batch norm': (
            1,
            dict(SMALL, alignment='information', learning_rate=1.0, sync_batch_norm=True, **SPLIT),
        ),
        'batch norm, statistics of each part': (
            1,
            dict(SMALL, alignment='symmetric', learning_rate=1.0),
        ),
    }
)
AT_NIGHT = [
    'clipped step of dfa',
    'clipped step of kolen_pollack',
    'lenet',
    'lenet, undivided error',
] + [f'step of {rule}' for rule in sorted(set(RULES) - set(kinds.REPRESENTATIVES))]


def run(exp, steps, own):
    """Returns tiny.train of an experiment on several hosts; this process is number `own`."""
    with tiny.session(exp) as session:
        if own:
            checkpoints.load(
                session, exp, {name: value + 1 for name, value in tiny.values(session, exp).items()}
            )
        session.run(exp.level)
        session.run(exp.step.initializer)
        history, scalars = [tiny.values(session, exp)], []
        while len(scalars) < steps:
            scalars += exp.run_steps(session, steps - len(scalars))
        return history + [tiny.values(session, exp)], scalars


def main(own, hosts, out, *names):
    """Runs all steps of these cases."""
    together = dict(worker_hosts=tuple(hosts.split(',')), task_index=int(own))
    for name, dataset in dict(tiny.DATASETS, pixels=PIXELS, large=LARGE).items():
        data.DATASETS[name] = dataset
    NETWORKS['small'] = tiny.SMALL
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    first = tiny.trainer(**dict(CASES['parts'][1], **together))
    outcomes = {}
    with first.device.ready():
        first.device.shared([0])
        for name in names:
            steps, settings = CASES[name]
            device = tiny.devices.choose(tiny.config(**dict(settings, **together)))
            device.target, device._sums = (
                first.device.target,
                first.device._sums + 100 * (len(outcomes) + 1),
            )
            exp = tiny.Experiment(
                tiny.config(**dict(settings, **together)), device, validating=False
            )
            outcomes[name] = run(exp, steps, int(own))
        with open(out, 'wb') as file:
            pickle.dump(outcomes, file)


if __name__ == '__main__':
    main(*sys.argv[1:])
