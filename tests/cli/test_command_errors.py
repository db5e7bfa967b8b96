"""Impossible command lines: each ends with one sentence that names the cause, and no traceback.

Exit code 2: a setting is wrong. 1: what the settings refer to is missing or wrong. 3: the training
diverged. The commands run in this process; test_processes.py shows that a process ends like them.
"""

import os
import pickle

import commands
import pytest

from config import params
from config.schema import Config

TRAIN = [
    'train.py',
    '--model=fc',
    '--layers_list=7,5',
    '--activation=tanh',
    '--exp_id_suffix=_refused',
]
VALIDATE = [
    'test.py',
    'validate',
    '--model=fc',
    '--layers_list=7,5',
    '--activation=tanh',
    '--val_exp_id=refused',
]

CASES = {  # the command, its exit code, the words in its sentence
    'unknown flag': (TRAIN + ['--alpah=0.1'], 2, ['alpah']),
    'no number': (TRAIN + ['--learning_rate=fast'], 2, ['--learning_rate=fast']),
    'no bool': (TRAIN + ['--do_restore=maybe'], 2, ['--do_restore=maybe']),
    'no finite number': (
        TRAIN + ['--learning_rate=inf'],
        2,
        ['--learning_rate must be a finite number'],
    ),
    'no choice': (
        TRAIN + ['--alignment=Symmetric'],
        2,
        ['--alignment', 'kolen_pollack', "'Symmetric'"],
    ),
    'two at once': (
        TRAIN + ['--optimizer=sgd', '--train_epochs=-1'],
        2,
        ["'sgd'", '--train_epochs must be at least 0'],
    ),
    'positional': (TRAIN + ['resnet18'], 2, ["'resnet18' is not a flag"]),
    'no batch multiple': (
        TRAIN + ['--train_batch_size=131', '--minibatch_size=7'],
        2,
        ['--minibatch_size=7', '131'],
    ),
    'no effect with the rule': (
        TRAIN + ['--alignment=symmetric', '--gamma=0.1', '--use_sparse'],
        2,
        ['--gamma has no effect', 'symmetric', '--use_sparse'],
    ),
    'no effect without a rule': (
        TRAIN + ['--input_distribution=normal', '--beta=0.2'],
        2,
        ['--input_distribution', '--beta'],
    ),
    'no effect on the model': (TRAIN + ['--use_resnet_v2'], 2, ['--use_resnet_v2', 'fc']),
    'no effect alone': (
        TRAIN + ['--grad_clipping_value=0.3'],
        2,
        ['--grad_clipping_value', '--grad_clip'],
    ),
    'no TPU': (
        TRAIN + ['--tpu_name=mine', '--tpu_zone=z', '--gcp_project=p'],
        2,
        ['--tpu_name=mine: cannot use the TPU'],
    ),
    'no TPU named': (
        TRAIN + ['--num_shards=4'],
        2,
        ['--num_shards has no effect without --tpu_name'],
    ),
    'no TPU to validate on': (
        ['test.py', 'validate_tpu', '--val_exp_id=refused'],
        2,
        ['validate_tpu needs --tpu_name'],
    ),
    'TPU of a GPU': (
        TRAIN + ['--tpu_name=mine', '--gpu=1'],
        2,
        ['--tpu_name=mine: --gpu=1 is for GPUs'],
    ),
    'two GPUs': (TRAIN + ['--gpu=0,1'], 2, ['--gpu=0,1']),
    'no params file': (TRAIN + ['--load_params_file={home}/none.pkl'], 2, ['{home}/none.pkl']),
    'params file of another kind': (
        TRAIN + ['--load_params_file={home}/settings.yaml'],
        2,
        ['settings.yaml must end in .pkl or .json'],
    ),
    'damaged params file': (TRAIN + ['--load_params_file={damaged}'], 2, ['{damaged}']),
    'hostile params file': (TRAIN + ['--load_params_file={hostile}'], 2, ['{hostile}', 'system']),
    'no folder for the params': (
        TRAIN + ['--save_params_file={home}/none/a.pkl'],
        2,
        ['{home}/none/a.pkl'],
    ),
    'no mode': (['test.py'], 2, ['test.py validate']),
    'no such mode': (['test.py', 'evaluate', '--val_exp_id=refused'], 2, ['test.py validate']),
    'no val_exp_id': (VALIDATE[:-1], 2, ['--val_exp_id']),
    'val_exp_id of a training': (
        TRAIN + ['--val_exp_id=refused'],
        2,
        ['--val_exp_id is for test.py', 'under None_refused'],
    ),
    'dry run of a validation': (VALIDATE + ['--dry_run'], 2, ['--dry_run', 'train.py']),
    'no server': (TRAIN + ['--host=127.0.0.9', '--port=9'], 1, ['127.0.0.9:9', '--port']),
    'no port': (TRAIN + ['--port=65536'], 1, ['65536']),
    'no name for a database': (TRAIN + ['--dbname=a.b'], 1, ["dbname 'a.b'"]),
    'no name for an experiment': (TRAIN + ['--exp_id_suffix=/b'], 1, ["exp_id 'None/b'"]),
    'no data_dir': (TRAIN + ['--dataset=imagenet', '--data_dir='], 1, ['--data_dir']),
    'no such data_dir': (
        TRAIN + ['--dataset=imagenet', '--data_dir={home}/none'],
        1,
        ['--data_dir={home}/none'],
    ),
    'no TFRecords': (
        TRAIN + ['--dataset=imagenet', '--data_dir={home}'],
        1,
        ['--data_dir={home}', 'train-*'],
    ),
    'no such folder of MNIST': (
        TRAIN + ['--data_dir={home}/none'],
        1,
        ['--data_dir={home}/none is not a folder'],
    ),
    'no MNIST in a folder': (
        TRAIN + ['--data_dir={home}'],
        1,
        ['--data_dir={home} holds no train-images-idx3-ubyte'],
    ),
    'no such folder of CIFAR': (
        TRAIN + ['--dataset=cifar10', '--data_dir=~/none'],
        1,
        ['--data_dir=~/none is not a folder'],
    ),
    'no batch as large': (
        TRAIN + ['--train_batch_size=4001'],
        1,
        ['4,001', '4,000', '--train_batch_size'],
    ),
    'no experiment to start from': (
        TRAIN + ['--load_db', '--load_exp_id=nobody'],
        1,
        ['cli.fc_7-5', 'nobody'],
    ),
    'no experiment to validate': (
        VALIDATE + ['--exp_id_suffix=_nobody'],
        1,
        ['cli.fc_7-5', 'None_nobody'],
    ),
    'no checkpoint': (VALIDATE + ['--load_checkpoint={home}/none'], 1, ['{home}/none']),
    'no file system': (
        TRAIN + ['--cache_dir=foo://bucket/x'],
        2,
        ['--cache_dir=foo://bucket/x', 'has no file system'],
    ),
}

WITH_A_CHECKPOINT = {
    'no such step': (
        VALIDATE + ['--alignment=symmetric', '--exp_id_suffix=_errors', '--load_step=7'],
        1,
        ['checkpoint of step 7', 'symmetric_errors'],
    ),
    'half a path': (
        VALIDATE + ['--load_checkpoint={checkpoint}.index'],
        1,
        ['{checkpoint}.index', 'without .index'],
    ),
    'checkpoint of another model': (
        VALIDATE
        + [
            '--layers_list=7,3',
            '--load_checkpoint={checkpoint}',
            '--alignment=symmetric',
            '--override=layers_list',
        ],
        1,
        [
            '{checkpoint} does not fit',
            'dense1/forward_kernel ([7, 5] in the checkpoint, [7, 3] here)',
        ],
    ),
    'checkpoint of a deeper model': (
        VALIDATE
        + [
            '--layers_list=7',
            '--load_checkpoint={checkpoint}',
            '--alignment=symmetric',
            '--override=layers_list',
        ],
        1,
        ['{checkpoint} does not fit', 'extra: dense1/backward_kernel'],
    ),
    'settings of another checkpoint': (
        VALIDATE + ['--layers_list=7', '--load_checkpoint={checkpoint}', '--alignment=symmetric'],
        2,
        [
            '--layers_list=7 contradicts {checkpoint}, which has --layers_list=7,5',
            '--override=layers_list',
        ],
    ),
}


class Hostile:
    """An object whose pickle runs a command when pickle itself loads it."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f'touch {self.witness}',)


@pytest.fixture(scope='module')
def paths(home, tmp_path_factory):
    """The values for the words in braces above, except the checkpoint."""
    own = tmp_path_factory.mktemp('errors')
    (own / 'hostile.pkl').write_bytes(
        pickle.dumps({'params': Hostile(own / 'witness')}, protocol=2)
    )
    params.save(Config.of({}, {}), str(own / 'whole.pkl'))
    (own / 'damaged.pkl').write_bytes((own / 'whole.pkl').read_bytes()[:-9])
    return dict(
        home=home,
        hostile=own / 'hostile.pkl',
        damaged=own / 'damaged.pkl',
        witness=own / 'witness',
    )


@pytest.fixture(scope='module')
def checkpoint(run, where, folder):
    """The only checkpoint of an experiment, symmetric_errors."""
    words = [*commands.FC, *where, '--exp_id_suffix=_errors', '--train_epochs=0']
    commands.succeeded(run('train.py', *words))
    return folder('symmetric_errors') + '/checkpoint-0'


def command(words, where):
    """Returns a command, with the flags for the tests' places unless it gives them itself."""
    given = {word.split('=')[0] for word in words}
    return words + [flag for flag in where if flag.split('=')[0] not in given]


@pytest.fixture
def check(run, where, records):
    """Returns a function that runs a command and checks its exit code and its sentence.

    It is called as check(words, code, names, {word in braces: its value}).
    """

    def refused(words, code, names, values):
        done = run(*command([word.format(**values) for word in words], where))
        sentence = commands.refusal(done, code)
        assert [name for name in names if name.format(**values) not in sentence] == []
        assert records('None_refused') == records('refused') == []

    return refused


@pytest.mark.parametrize('case', sorted(CASES))
def test_one_sentence_names_the_fault(check, paths, case):
    check(*CASES[case], paths)


@pytest.mark.slow
@pytest.mark.parametrize('case', sorted(WITH_A_CHECKPOINT))
def test_one_sentence_names_the_fault_where_there_is_a_checkpoint(check, checkpoint, case):
    check(*WITH_A_CHECKPOINT[case], dict(checkpoint=checkpoint))


@pytest.mark.slow
def test_an_exploding_loss_names_its_step(check):
    settings = ['--alignment=symmetric', '--learning_rate=1e12']
    words = TRAIN + settings + ['--train_epochs=0.2', '--novalidate_first']
    check(words, 3, ['step 2: ', 'alignment_loss', 'smaller learning rate'], {})


def test_a_hostile_params_file_runs_nothing(run, where, paths):
    run(*command(TRAIN + ['--load_params_file={hostile}'.format(**paths)], where))
    assert not paths['witness'].exists()
    pickle.loads(paths['hostile'].read_bytes())
    assert paths['witness'].exists()  # loading it with pickle runs the command


def test_a_cache_dir_that_cannot_be_is_refused_before_the_training(run, where, tmp_path, records):
    file = tmp_path / 'file'
    file.write_text('in the way')
    words = TRAIN + ['--train_epochs=0.1', '--exp_id_suffix=_uncached', f'--cache_dir={file}']
    done = run(*command(words, where))
    assert str(file) in commands.refusal(done, 1)
    assert records('None_uncached') == []


@pytest.mark.parametrize('flag', ['--epochs_per_checkpoint=1e308', '--seed=9223372036854775808'])
def test_numbers_beyond_all_measure(run, where, flag):
    done = run(*command(TRAIN + ['--train_epochs=0', '--exp_id_suffix=_huge', flag], where))
    assert flag.split('=')[0] in commands.refusal(done, 2)


@pytest.mark.parametrize('flag', ['--load_step=30', '--load_exp_id=symmetric_whole'])
def test_load_flags_without_effect_are_refused(run, where, flag):
    exp_id_suffix = '--exp_id_suffix=_' + flag.strip('-').replace('=', '_')
    done = run('train.py', *(commands.FC + where + ['--train_epochs=0', exp_id_suffix, flag]))
    assert flag.split('=')[0] in commands.refusal(done, 2)


@pytest.mark.slow
def test_no_step_is_recorded_twice(run, where, records):
    fc = ['train.py'] + commands.FC + where + ['--exp_id_suffix=_back', '--train_epochs=0.4']
    commands.succeeded(run(*fc))
    again = run(*fc, '--do_restore', '--load_step=6', '--learning_rate=0.3')
    assert 'symmetric_back has records up to step 12 already' in commands.refusal(again, 2)
    assert [record['step'] for record in records('symmetric_back')] == [0, 6, 12]
