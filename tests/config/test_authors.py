"""The authors' files of both versions of dill are read completely, without executing anything."""

import os
import pickle
import struct
import subprocess
import sys

import pytest

import tiers
from config import authors, params, pickles
from config.schema import Config, ConfigError, whole_steps
from data.preprocessing import PREPROCESSINGS
from training.choices import check, choices

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'authors')
FILES = sorted(name for name in os.listdir(FOLDER) if name.endswith('.pkl'))

COMMON = dict(
    dataset='imagenet',
    model='resnet18',
    train_batch_size=256,
    eval_batch_size=128,
    validate_first=False,
    learning_rate=0.125,
    rescale_lr=True,
    constant_lr=False,
    warmup_epochs=6,
    optimizer='momentum',
    exp_id_suffix='_tuned',
)
MIRROR = dict(
    COMMON,
    alignment='mirror',
    alpha=0.01,
    beta=0.02,
    input_distribution='normal',
    input_stddev=0.5,
    center_forward_output=True,
    manual_lr=True,
    drop=1,
    boundary_step=1000,
    alignment_optimizer='adam',
    alignment_learning_rate=0.0625,
)
for _name in ('rescale_lr', 'constant_lr', 'warmup_epochs'):  # a manual drop does not have them
    del MIRROR[_name]
WANTED = {
    'backprop': COMMON,
    'symmetric': dict(
        COMMON,
        alignment='symmetric',
        alpha=0.003,
        beta=0.006,
        beta_start=0.25,
        beta_stop=0.75,
        beta_schedule_rate=-0.5,
        beta_schedule_type='exponential',
    ),
    'information_tpe': dict(
        COMMON,
        alignment='information',
        alpha=0.1,
        beta=0.2,
        gamma=0.3,
        reconstruction_reversal=True,
        use_sparse=True,
        activation_forward=True,
        activation_fn_override='relu',
    ),
    'wm_tpe_ad': MIRROR,
    'wm_tpe_ad_ops': dict(
        MIRROR,
        use_noisy_alignment_opt=True,
        noisy_alignment_opt_distribution='normal',
        noisy_alignment_opt_variance=0.25,
    ),
}


def path(name):
    return os.path.join(FOLDER, name)


def content(name='symmetric_dill0.3.5.1.pkl'):
    with open(path(name), 'rb') as file:
        return file.read()


def test_there_is_a_file_of_each_kind_and_version():
    assert {name.split('_dill')[0] for name in FILES} == set(WANTED)
    assert {name.split('_dill')[1] for name in FILES} == {'0.3.1.1.pkl', '0.3.5.1.pkl'}


@pytest.mark.parametrize('name', FILES)
@pytest.mark.claim('settings')
def test_a_file_gives_the_settings_that_were_put_into_it(name, record_property):
    values, unknown = params.load(path(name))
    config = Config.of(values, choices())
    check(config)
    record_property('references', len(config.differing()))
    assert config.differing() == {
        key: value
        for key, value in Config.of(WANTED[name.split('_dill')[0]], choices()).differing().items()
    }
    assert unknown == (['model_params.surprise'] if 'wm_' in name else [])


def test_the_lengths_are_whole_steps():
    assert [
        whole_steps(authors._epochs(steps, 5004), 5004)
        for steps in (1, 2502, 126250, 450360, 1000800)
    ] == [1, 2502, 126250, 450360, 1000800]


# The effect of --use_resnet_v2 and --image_size on a file: the table of docs/settings.md.
IMAGES = [
    ('authors', [], 'resnet', 224, False),
    ('authors', ['--use_resnet_v2'], 'inception', 299, True),
    ('authors', ['--image_size=128'], 'resnet', 128, False),
    ('authors', ['--use_resnet_v2', '--image_size=224'], 'inception', 224, True),
    ('ours', [], 'resnet', 224, False),
    ('ours', ['--use_resnet_v2'], 'inception', 299, True),
    ('ours, plain', [], 'plain', 224, False),
    ('ours, plain', ['--use_resnet_v2'], 'plain', 224, True),
    ('ours, plain', ['--use_resnet_v2', '--image_size=64'], 'plain', 64, True),
]


@pytest.mark.parametrize('kind, flags, preprocessing, size, is_v2', IMAGES)
def test_which_images_a_settings_file_gets(
    kind, flags, preprocessing, size, is_v2, command_line, tmp_path
):
    file = path(
        'symmetric_dill0.3.5.1.pkl'
    )  # its own prep_type is 'resnet', and its resize is None
    if kind != 'authors':
        settings = dict(
            dataset='imagenet', model='resnet18', preprocessing='plain' if 'plain' in kind else None
        )
        file = str(tmp_path / 'ours.pkl')
        params.save(Config.of(settings, choices()), file)
    answer = command_line('--load_params_file=' + file, *flags)
    config = Config.of(answer['differing'], choices())
    assert config.use_resnet_v2 == is_v2
    chosen = config.preprocessing or ('inception' if config.use_resnet_v2 else 'resnet')
    assert (chosen, config.image_size or PREPROCESSINGS[chosen].default_size) == (
        preprocessing,
        size,
    )


def test_what_an_authors_file_says_of_its_images_never_counts(tmp_path):
    """In a v2 run with images of 299 pixels, a file without the flag gives v1's network and images.

    The original does the same.
    """
    document = pickles.inert(content())
    of_images = document['params']['train_params']['data_params']['func'].args
    owner = next(
        part
        for part in of_images
        if authors.called(part) == 'ImageNet' and isinstance(part, pickles.Inert)
    )
    owner.state.update(prep_type='inception', resize=299, crop_size=299)
    document['params']['model_params']['use_v2'] = True
    values, unknown = authors.settings(document)
    assert {'preprocessing', 'image_size', 'use_resnet_v2'}.isdisjoint(values) and values[
        'model'
    ] == 'resnet18'
    assert unknown == ['model_params: use_v2=True; only --use_resnet_v2 counts, as in the original']


def test_a_loaded_file_can_be_kept_as_plain_data(tmp_path):
    plain = str(tmp_path / 'plain.pkl')
    config = Config.of(params.load(path('symmetric_dill0.3.1.1.pkl'))[0], choices())
    params.save(config, plain)
    assert Config.of(params.load(plain)[0], choices()) == config


class Marks:
    """An object that makes a file if pickle itself unpickles it."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def groups(**values):
    """Returns params in the authors' form, with something in them."""
    return {'params': dict({name: {} for name in authors.PASSED_OVER}, **values)}


def refused(tmp_path, data):
    file = tmp_path / 'hostile.pkl'
    file.write_bytes(data)
    with pytest.raises(ConfigError) as error:
        Config.of(params.load(str(file))[0], choices())
    assert 'hostile.pkl' in str(error.value)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'function', [os.system, eval, exec, subprocess.call], ids=lambda function: function.__name__
)
@pytest.mark.claim('hostile settings')
def test_nothing_in_a_hostile_file_runs(tmp_path, monkeypatch, protocol, function):
    monkeypatch.chdir(tmp_path)
    command = 'touch ran' if function in (os.system, subprocess.call) else 'open("ran", "w")'
    marks = Marks(function, command)
    for document in (
        marks,
        [marks],
        groups(model_params={'func': marks}),
        groups(model_params={'alignment': marks}),
        groups(train_params={'data_params': {'func': Marks(getattr, marks, 'x'), 'batch_size': 3}}),
        groups(optimizer_params={'optimizer_class': marks}),
    ):
        refused(tmp_path, pickle.dumps(document, protocol))
    assert not os.path.exists('ran')


@pytest.mark.claim('hostile settings')
def test_what_would_run_in_an_authors_file_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = b'cos\nsystem\n(S"touch ran"\ntR0'  # calls, and drops the result
    data = content()
    assert data[:2] == b'\x80\x02'
    (tmp_path / 'evil.pkl').write_bytes(data[:2] + evil + data[2:])
    assert params.load(str(tmp_path / 'evil.pkl')) == params.load(path('symmetric_dill0.3.5.1.pkl'))
    assert not os.path.exists('ran')


@pytest.mark.parametrize(
    'data',
    [
        b'\x80\x02(' + b'(' * 100000 + b't' * 100000 + b'\x91.',  # a set of deep tuples
        b'\x80\x02}' + b'(' * 100000 + b't' * 100000 + b'Ns.',  # a deep tuple as a key
        b'\x80\x02cos\nsystem\nq\x00' + b'\x85R' * 50000 + b'.',  # a call of a call of a call
        b'\x80\x02]q\x00h\x00a.',
        b'\x80\x02h\x05.',
        b'\x80\x02cos\nsystem\n}b.',
        b'\x80\x02\x82\x01.',
        b'Pid\n.',
        b'\x80\x04\x95' + b'\xff' * 8 + b'.',
        b'\x80\x02NNb.',
        b'\x80\x02N(NNu.',
        b'\x80\x02N)R.',
        b'\x80\x02))R.',
        b'',
    ],
    ids=range(14),
)
@pytest.mark.claim('hostile settings')
def test_a_crafted_file_is_refused(tmp_path, data):
    refused(tmp_path, data)


@pytest.mark.claim('hostile settings')
@pytest.mark.parametrize('every', [31] + tiers.at_night(3))
def test_a_truncated_or_garbled_file_is_refused_or_read(tmp_path, every):
    whole = content()
    for length in range(0, len(whole) - 1, 2 * every + 1):
        refused(tmp_path, whole[:length])
    read = 0
    for position in range(2, len(whole), every):
        data = bytearray(whole)
        data[position] ^= 1 + position % 255
        (tmp_path / 'garbled.pkl').write_bytes(bytes(data))
        try:
            params.load(str(tmp_path / 'garbled.pkl'))
            read += 1
        except ConfigError:
            pass
    assert read > 0


def in_authors_form(group, key, value):
    """Returns a pickle in the authors' form; `value`: the opcodes of params[group][key]."""

    def text(word):
        return b'X' + struct.pack('<i', len(word)) + word.encode()

    return b''.join(
        [b'\x80\x02}', text('params'), b'}']
        + [
            text(name) + b'}' + (text(key) + value + b's' if name == group else b'') + b's'
            for name in authors.PASSED_OVER
        ]
        + [b's.']
    )


CALLED_AGAIN = b'cos\nx\n' + b'\x85R' * 20_000  # a call of a call of a call
# The arguments of each of many calls are the same long list, or the attributes the same dictionary.
COPIED_ARGUMENTS = b'(' + b'N' * 20_000 + b'lq\x010cos\nx\nq\x020' + b'h\x02h\x01R0' * 6_000 + b'N'
COPIED_STATE = (
    b'('
    + b''.join(b'I%d\nN' % i for i in range(5_000))
    + b'dq\x010'
    + b'cos\nx\nh\x01b0' * 9_000
    + b'N'
)


@pytest.mark.claim('hostile settings')
@pytest.mark.parametrize(
    'value',
    [CALLED_AGAIN, COPIED_ARGUMENTS, COPIED_STATE, b'cos\nx\n' + b'\x85R' * 200_000],
    ids=['calls', 'arguments', 'state', 'more calls'],
)
@pytest.mark.parametrize(
    'group, key',
    [
        ('model_params', 'func'),
        ('model_params', 'alignment'),
        ('learning_rate_params', 'func'),
        ('optimizer_params', 'optimizer_class'),
    ],
)
def test_a_small_file_does_not_become_large(tmp_path, group, key, value):
    refused(tmp_path, in_authors_form(group, key, value))


@pytest.mark.slow
def test_python_itself_would_execute_such_a_file():
    code = 'import pickle; pickle.load(open({!r}, "rb"))'.format(path('symmetric_dill0.3.5.1.pkl'))
    process = subprocess.run([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True)
    assert process.returncode == 1 and 'dill' in process.stderr
