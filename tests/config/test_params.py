"""Settings files: a round trip, their groups, and hundreds of files that must be refused.

None of them may ever be executed.
"""

import copyreg
import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys

import pytest

import tiers
from alignment.rules import declarations
from config import params
from config.rows import ANY
from config.schema import GROUPS, Config, ConfigError, Scope, rows_of

RULES = {'alignment': declarations()}
ROWS = rows_of(RULES)

EVERY_KIND = dict(
    host='mongo.example',
    port=1,
    dbname='übung',
    exp_id_suffix='_7',
    cache_dir='/a b',
    epochs_per_checkpoint=0.1,
    save_to_gfs=('weight_angles',),
    validate_first=False,
    layers_list=(7, 5),
    alignment='information',
    gamma=1e-45,
    alpha=-2.5e300,
    alpha_schedule_type='cyclic',
    alpha_cycle=3.0,
    train_batch_size=2**40,
    minibatch_size=2**20,
    seed=2**62,
    learning_rate=1 / 3,
    use_bias_forward=False,
    optimizer='momentum',
)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
# Files are cut, and bytes changed, at every fifth place. At night, this is done at all places.
EVERY = pytest.mark.parametrize('every', [5] + tiers.at_night(1))


KEPT = [name for name, row in ROWS.items() if row.scope is not Scope.CALL]
OF_ANOTHER_RULE = {'expansion', 'undivided_error'}  # not of the rule of EVERY_KIND


def other(row):
    """Returns a value of the right kind that differs from the default."""
    if row.kind is bool:
        return not row.default
    return {str: 'other', int: 7, float: 0.3, list: ('a', 'b')}[row.kind]


def refusal(content, folder):
    """Returns the message with which a file of this content is refused."""
    path = str(folder / 'file.pkl')
    with open(path, 'wb') as file:
        file.write(content)
    with pytest.raises(ConfigError) as caught:
        params.load(path, RULES)[0]
    assert str(caught.value).startswith(('--load_params_file=' + path, path))
    return str(caught.value)


def valid(tmp_path):
    """The bytes of a valid file."""
    path = str(tmp_path / 'valid.pkl')
    params.save(Config.of(EVERY_KIND, RULES), path)
    with open(path, 'rb') as file:
        return file.read()


# --- writing and reading --------------------------------------------------------------------------


def test_round_trip_of_every_kind_of_value(tmp_path):
    config = Config.of(EVERY_KIND, RULES)
    path = str(tmp_path / 'a.pkl')
    params.save(config, path)
    loaded = params.load(path, RULES)[0]
    assert Config.of(loaded, RULES) == config and set(loaded) == set(KEPT) - OF_ANOTHER_RULE
    assert os.listdir(str(tmp_path)) == ['a.pkl']


def test_round_trip_of_every_setting(tmp_path):
    config = Config.of({}, RULES).replaced({name: other(row) for name, row in ROWS.items()})
    path = str(tmp_path / 'a.pkl')
    params.save(config, path)
    loaded = params.load(path, RULES)[0]
    assert {
        name: tuple(value) if isinstance(value, list) else value for name, value in loaded.items()
    } == {name: config[name] for name in KEPT}
    assert [name for name in ROWS if config[name] == ROWS[name].default] == []


def test_the_groups_are_those_of_tfutils():
    document = params.to_params(Config.of(EVERY_KIND, RULES))
    assert list(document) == [
        'save_params',
        'load_params',
        'model_params',
        'train_params',
        'loss_params',
        'learning_rate_params',
        'optimizer_params',
        'validation_params',
    ]
    assert document['save_params']['port'] == 1 and document['model_params']['layers_list'] == [
        7,
        5,
    ]
    names = {name for values in document.values() for name in values}
    assert names == set(ROWS) - OF_ANOTHER_RULE
    assert Config.of(params.values_of(document, RULES), RULES) == Config.of(EVERY_KIND, RULES)


def test_the_file_is_protocol_2_plain_data_that_any_python_reads(tmp_path):
    content = valid(tmp_path)
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
    assert opcodes[0] == ('PROTO', 2)
    names = {name for name, _ in opcodes}
    assert names.isdisjoint(
        {
            'GLOBAL',
            'STACK_GLOBAL',
            'REDUCE',
            'INST',
            'OBJ',
            'NEWOBJ',
            'NEWOBJ_EX',
            'BUILD',
            'EXT1',
            'EXT2',
            'EXT4',
            'PERSID',
            'BINPERSID',
        }
    )
    assert all(opcode.proto <= 2 for opcode, _, _ in pickletools.genops(content))
    document = pickle.loads(content)
    assert set(document) == {'params'} and document['params']['model_params']['alpha'] == -2.5e300


def test_saving_replaces_the_file_as_a_whole(tmp_path):
    path = str(tmp_path / 'a.pkl')
    params.save(Config.of({}, {}), path)
    params.save(Config.of(dict(port=1), {}), path)
    assert params.load(path)[0]['port'] == 1


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_every_protocol_of_plain_data_is_read(tmp_path, protocol):
    path = str(tmp_path / 'a.pkl')
    with open(path, 'wb') as file:
        pickle.dump(
            {'params': params.to_params(Config.of(EVERY_KIND, RULES))}, file, protocol=protocol
        )
    assert Config.of(params.load(path)[0], {}) == Config.of(EVERY_KIND, RULES)


def test_a_file_of_python_2_is_read(tmp_path):
    path = str(tmp_path / 'a.pkl')
    text = (
        b'\x80\x02}U\x06paramsq\x00}U\x0cmodel_params}(U\x09alignmentU\x06mirrorU\x05alpha'
        b'G?PbM\xd2\xf1\xa9\xfcuss.'
    )
    with open(path, 'wb') as file:
        file.write(text)
    assert params.load(path)[0] == dict(alignment='mirror', alpha=0.001)


def test_names_and_places_that_cannot_be(tmp_path):
    config, folder = Config.of({}, {}), str(tmp_path)
    (tmp_path / 'plain').write_text('no folder')
    (tmp_path / 'folder.pkl').mkdir()
    for action, flag in (
        (params.load, 'load_params_file'),
        (lambda path: params.save(config, path), 'save_params_file'),
    ):
        for name in ('a.pickle', 'a', 'a.pkl.txt', ''):
            with pytest.raises(ConfigError, match=f'--{flag}=.* must end in .pkl'):
                action(os.path.join(folder, name))
        for name in ('missing/a.pkl', 'plain/a.pkl', 'folder.pkl'):
            with pytest.raises(ConfigError, match=f'--{flag}=.*{name}'):
                action(os.path.join(folder, name))
    with pytest.raises(ConfigError, match='get_configs.sh'):
        params.load(os.path.join(folder, 'config', 'missing.pkl'))


# --- what a file must not contain -----------------------------------------------------------------


class Calls:
    """An object that is pickled as the call of a function with arguments."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def touch(marker):
    return f'touch {marker}'


def unicode4(text):
    return b'\x8c' + struct.pack('<B', len(text.encode())) + text.encode()


def calls(marker):
    """Returns {description: an object whose pickle calls something}."""
    system, source = os.system, f'open({marker!r}, "w").close()'
    return {
        'os.system': Calls(system, (touch(marker),)),
        'builtins.eval': Calls(eval, (source,)),
        'builtins.exec': Calls(exec, (source,)),
        'builtins.getattr': Calls(getattr, ('', 'join')),
        'nested': {
            'params': {'model_params': {'alpha': [{'x': (Calls(system, (touch(marker),)),)}]}}
        },
        'as a key': {'params': {Calls(system, (touch(marker),)): 1}},
        'set': {'params': {'model_params': {'layers_list': Calls(set, ([1],))}}},
        'class': {'params': {'model_params': {'alpha': float}}},
        'function': {'params': {'model_params': {'func': os.path.join}}},
        'complex': {'params': {'model_params': {'alpha': 1j}}},
        'instance': {'params': Calls(copyreg.__newobj__, (Calls,))},
    }


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('what', sorted(calls('')))
@pytest.mark.claim('hostile settings')
def test_a_file_that_calls_something_is_refused_and_not_executed(tmp_path, what, protocol):
    marker = str(tmp_path / 'executed')
    message = refusal(pickle.dumps(calls(marker)[what], protocol), tmp_path)
    assert 'it refers to' in message and 'only plain data is allowed' in message
    assert not os.path.exists(marker)


@pytest.mark.parametrize('what', ['os.system', 'builtins.eval', 'nested', 'as a key'])
def test_the_same_files_do_execute_where_pickle_reads_them(tmp_path, what):
    marker = str(tmp_path / 'executed')
    pickle.loads(pickle.dumps(calls(marker)[what], 2))
    assert os.path.exists(marker)


def opcodes(marker):
    """Returns {description: (bytes, whether pickle itself would execute them)}.

    These are ways to a call that pickle.dumps does not use.
    """
    command = touch(marker).encode()
    system = b'cposix\nsystem\n'
    text = b'X' + struct.pack('<I', len(command)) + command
    named = unicode4('posix') + unicode4('system')
    return {
        'GLOBAL and REDUCE': (system + b'(' + text + b'tR.', True),
        'INST': (b'(S' + repr(command.decode()).encode() + b'\niposix\nsystem\n.', True),
        'OBJ': (b'(' + system + text + b'o.', True),
        'STACK_GLOBAL': (b'\x80\x04' + named + b'\x93' + unicode4(touch(marker)) + b'\x85R.', True),
        'memoised names': (
            b'\x80\x04'
            + unicode4('posix')
            + b'\x940'
            + unicode4('system')
            + b'\x940'
            + b'h\x00h\x01\x93'
            + unicode4(touch(marker))
            + b'\x85R.',
            True,
        ),
        'memoised function': (system + b'q\x000h\x00' + text + b'\x85R.', True),
        'thrown away': (system + text + b'\x85R0}X\x06\x00\x00\x00params}s.', True),
        'before a whole document': (
            system + text + b'\x85R0' + pickle.dumps({'params': {}}, 2)[2:],
            True,
        ),
        'second-hand getattr': (
            b'cbuiltins\ngetattr\n(cos\n__dict__\nX\x03\x00\x00\x00gettR.',
            False,
        ),
        'NEWOBJ': (b'\x80\x02cbuiltins\nlist\n)\x81.', False),
        'NEWOBJ_EX': (b'\x80\x04cbuiltins\nlist\n)}\x92.', False),
        'BUILD': (
            b'\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00ax\x01\x00\x00\x00bsb.',
            False,
        ),
        'copyreg._reconstructor': (
            b'ccopyreg\n_reconstructor\n(cbuiltins\nlist\ncbuiltins\nobject\nNtR.',
            False,
        ),
        'Python 2 names': (b'c__builtin__\neval\n(' + text + b'tR.', False),
        'dotted name': (b'\x80\x04' + unicode4('os') + unicode4('path.join') + b'\x93.', False),
        'PERSID': (b'Pnumber\n.', False),
        'BINPERSID': (b'K\x01Q.', False),
    }


@pytest.mark.parametrize('what', sorted(opcodes('')))
@pytest.mark.claim('hostile settings')
def test_opcodes_that_reach_out_are_refused(tmp_path, what):
    marker = str(tmp_path / 'executed')
    content, executes = opcodes(marker)[what]
    message = refusal(content, tmp_path)
    assert not os.path.exists(marker)
    assert 'plain data is allowed' in message or 'damaged' in message
    if executes:  # otherwise the file would prove nothing
        try:
            pickle.loads(content)
        finally:
            assert os.path.exists(marker)


@pytest.mark.parametrize('opcode', [b'\x82\xf0', b'\x83\xf0\x00', b'\x84\xf0\x00\x00\x00'])
@pytest.mark.claim('hostile settings')
def test_a_registered_extension_is_not_fetched(tmp_path, opcode):
    marker = str(tmp_path / 'executed')
    content = (
        b'\x80\x02'
        + opcode
        + b'X'
        + struct.pack('<I', len(touch(marker)))
        + touch(marker).encode()
        + b'\x85R.'
    )
    copyreg.add_extension('os', 'system', 0xF0)
    try:
        assert 'extension (240)' in refusal(content, tmp_path)
        pickle._extension_cache.clear() if hasattr(
            pickle, '_extension_cache'
        ) else copyreg.clear_extension_cache()
        assert not os.path.exists(marker)
    finally:
        copyreg.remove_extension('os', 'system', 0xF0)


@pytest.mark.parametrize(
    'what, content',
    [
        ('REDUCE on text', b'X\x03\x00\x00\x00abc)R.'),
        ('REDUCE on a dictionary', b'})R.'),
        ('NEWOBJ on text', b'K\x01)\x81.'),
        ('NEWOBJ_EX on a list', b'\x80\x04])}\x92.'),
        ('OBJ of text', b'(X\x03\x00\x00\x00abco.'),
        ('OBJ of nothing', b'(o.'),
        ('BUILD on a dictionary', b'}}X\x01\x00\x00\x00aK\x01sb.'),
        ('BUILD with a pair', b']N}\x86b.'),
        ('STACK_GLOBAL of numbers', b'\x80\x04K\x01K\x02\x93.'),
        ('an extension of no number', b'\x82\x00.'),
        ('a memo that was never filled', b'h\x07.'),
        ('a memo of text', b'gabc\n.'),
        ('no MARK', b'K\x01t.'),
        ('POP of nothing', b'0.'),
        ('APPEND to a number', b'K\x01K\x02a.'),
        ('an unhashable key', b'}]K\x01s.'),
        ('an odd number of items', b'}(K\x01K\x02K\x03u.'),
        ('bytes that are no text', b'X\x02\x00\x00\x00\xff\xfe.'),
        ('an unknown protocol', b'\x80\xff}.'),
        ('an unknown opcode', b'\xfe.'),
        ('a bad number', b'Iabc\n.'),
        ('a bad string', b"S'abc\n."),
        ('a frame of the wrong length', b'\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00}.'),
        ('only STOP', b'.'),
        ('two objects', b'}}.'),
        ('empty', b''),
        ('a line', b'port=29029\n'),
        ('NUL', b'\0' * 64),
    ],
)
@pytest.mark.claim('hostile settings')
def test_odd_opcodes_are_refused(tmp_path, what, content):
    refusal(content, tmp_path)


@pytest.mark.parametrize(
    'content',
    [
        b'X\xff\xff\xff\xff',
        b'X\xff\xff\xff\x7fabc',
        b'T\xff\xff\xff\x7fabc',
        b'\x8d' + b'\xff' * 8,
        b'\x8e' + b'\xff' * 7 + b'\x7f',
        b'\x96' + b'\xff' * 7 + b'\x7f',
        b'\x8b\xff\xff\xff\x7f',
        b'\x8b\xff\xff\xff\xff',
        b'B\xff\xff\xff\xff',
        b'r\xff\xff\xff\x7f.',
        b'Nr\xff\xff\xff\x7f.',
        b'\x80\x04\x95' + b'\xff' * 8 + b'}.',
    ],
    ids=repr,
)
@pytest.mark.claim('hostile settings')
def test_huge_lengths_are_refused(tmp_path, content):
    refusal(content, tmp_path)
    refusal(b'\x80\x02' + content + b'}.', tmp_path)


@pytest.mark.parametrize(
    'content',
    [
        b']' * 100000 + b'a' * 99999 + b'.',
        b'(' * 100000 + b't' * 100000 + b'.',
        b'N' + b'\x85' * 100000 + b'.',
        b'}N' * 49999 + b'}' + b's' * 49999 + b'.',
    ],
    ids=['lists', 'marks', 'tuples', 'dictionaries'],
)
@pytest.mark.claim('hostile settings')
def test_deep_nesting_is_refused(tmp_path, content):
    refusal(content, tmp_path)


# Used as a value, or as a key in place of a name. They are read in a separate process, which they
# must not crash.
# down
NESTED = {
    'lists': b']' * 99999 + b'a' * 99998,
    'tuples': b'N' + b'\x85' * 99999,
    'dictionaries': b'}N' * 49999 + b'}' + b's' * 49999,
}
READ = (
    'import sys\nfrom config import params, schema\n'
    'try:\n    schema.Config.of(params.load(sys.argv[1])[0], {})\nexcept schema.ConfigError:\n    '
    'print("refused")'
)


@pytest.mark.slow
@pytest.mark.parametrize(
    'what, place',
    [('lists', 'value'), ('tuples', 'value'), ('tuples', 'key'), ('dictionaries', 'value')],
)
@pytest.mark.claim('hostile settings')
def test_a_deep_value_among_the_settings_is_refused(tmp_path, what, place):
    path = str(tmp_path / 'deep.pkl')
    item = b'Valpha\n' + NESTED[what] if place == 'value' else NESTED[what] + b'N'
    with open(path, 'wb') as file:
        file.write(b'\x80\x02}Vparams\n}Vmodel_params\n}' + item + b'sss.')
    done = subprocess.run([sys.executable, '-c', READ, path], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b'refused\n')


def doubled(times):
    """Returns a list that holds a list twice, which holds a list twice, and so on."""
    found = ['a']
    for _ in range(times):
        found = [found, found]
    return found


@pytest.mark.claim('hostile settings')
@pytest.mark.parametrize(
    'group, name',
    [
        ('model_params', 'worker_hosts'),
        ('model_params', 'layers_list'),
        ('learning_rate_params', 'drop_epochs'),
        ('save_params', 'dbname'),
        ('save_params', 'no_such_setting'),
    ],
)
@pytest.mark.parametrize('times', [10, 16, 40, 400])
def test_a_list_that_holds_itself_often_is_refused(tmp_path, group, name, times):
    content = pickle.dumps({'params': {group: {name: doubled(times)}}}, 2)
    assert len(content) < 10_000
    path = str(tmp_path / 'file.pkl')
    with open(path, 'wb') as file:
        file.write(content)
    try:
        values = params.load(path, RULES)[0]
    except ConfigError as error:
        assert len(str(error)) < 1000
        return
    assert times == 10  # 2,047 lists: short enough to be looked at
    if name == 'worker_hosts':  # a setting of one call, which a file does not give
        assert name not in values
        return
    with pytest.raises(ConfigError, match='--' + name) as caught:
        Config.of(values, RULES)
    assert len(str(caught.value)) < 1000


@pytest.mark.claim('hostile settings')
@pytest.mark.parametrize('value', [1 << 80_000, [1 << 80_000]], ids=['number', 'list'])
@pytest.mark.parametrize(
    'group, name',
    [
        ('model_params', 'layers_list'),
        ('model_params', 'freeze'),
        ('learning_rate_params', 'drop_epochs'),
        ('save_params', 'dbname'),
        ('save_params', 'port'),
    ],
)
def test_a_number_of_thousands_of_digits_is_refused(tmp_path, group, name, value):
    path = str(tmp_path / 'file.pkl')
    with open(path, 'wb') as file:
        pickle.dump({'params': {group: {name: value}}}, file, 2)
    with pytest.raises(ConfigError, match='--' + name) as caught:
        Config.of(params.load(path, RULES)[0], RULES)
    assert len(str(caught.value)) < 1000


@pytest.mark.claim('hostile settings')
@pytest.mark.parametrize('ending', params.ENDINGS)
def test_a_file_that_is_too_large_is_not_read(tmp_path, ending):
    path = str(tmp_path / ('file' + ending))
    with open(path, 'wb') as file:
        file.truncate(1 << 33)  # it takes no room on the disk
    with pytest.raises(ConfigError, match='larger than 1,048,576 bytes'):
        params.load(path, RULES)


@pytest.mark.claim('hostile settings')
@EVERY
def test_a_file_cut_anywhere_is_refused(tmp_path, every):
    content = valid(tmp_path)
    for length in range(0, len(content), every):
        refusal(content[:length], tmp_path)


@pytest.mark.claim('hostile settings')
def test_garbage_is_refused(tmp_path):
    stream = random.Random(7)
    for _ in range(500):
        refusal(bytes(stream.randrange(256) for _ in range(stream.randrange(1, 99))), tmp_path)


@pytest.mark.claim('hostile settings')
@EVERY
def test_a_file_with_one_changed_byte_is_read_or_refused(tmp_path, every):
    """Changed bytes never cause an error other than ConfigError.

    A changed digit or letter can still make a legal setting.
    """
    content, refused = valid(tmp_path), 0
    path = str(tmp_path / 'changed.pkl')
    stream = random.Random(7)
    places = range(0, len(content), every)
    for place in places:
        with open(path, 'wb') as file:
            file.write(
                content[:place]
                + bytes([content[place] ^ stream.randrange(1, 256)])
                + content[place + 1 :]
            )
        try:
            Config.of(params.load(path, RULES)[0], RULES)
        except ConfigError:
            refused += 1
    assert refused > 0.8 * len(places)  # nearly all of the file is names and structure


# --- plain data that is not a settings file -------------------------------------------------------


@pytest.mark.parametrize(
    'document, words',
    [
        ({}, 'not a settings file'),
        ([], 'not a settings file'),
        (None, 'not a settings file'),
        ({'params': {}, 'more': 1}, 'not a settings file'),
        ({'params': []}, 'holds list, not a dictionary'),
        ({'params': None}, 'holds NoneType, not a dictionary'),
        ({'params': {'model_params': [1]}}, 'model_params must be a dictionary'),
        ({'params': {'model_parameters': {}}}, "'model_parameters'"),
        ({'params': {7: {}}}, '7'),
        ({'params': {'model_params': {'alpah': 1.0}}}, "'alpah' in model_params"),
        ({'params': {'model_params': {'port': 1}}}, "'port' in model_params"),
        ({'params': {'save_params': {'alpha': 1.0}}}, "'alpha' in save_params"),
        ({'params': {'model_params': {'__class__': 1}}}, "'__class__' in model_params"),
    ],
)
@pytest.mark.claim('hostile settings')
def test_documents_that_are_no_settings_are_refused_by_name(tmp_path, document, words):
    assert words in refusal(pickle.dumps(document, 2), tmp_path)


def test_all_unknown_names_are_told_at_once(tmp_path):
    document = {'params': {'a': {}, 'model_params': {'b': 1}, 'save_params': {'c': 1, 'port': 1}}}
    message = refusal(pickle.dumps(document, 2), tmp_path)
    assert (
        all(words in message for words in ("'a'", "'b' in model_params", "'c' in save_params"))
        and 'port' not in message
    )


@pytest.mark.parametrize(
    'group, name, value',
    [
        ('save_params', 'port', '29029'),
        ('model_params', 'alpha', 'much'),
        ('model_params', 'layers_list', {'a': 1}),
        ('model_params', 'layers_list', b'\x01'),
        ('train_params', 'validate_first', 1),
        ('train_params', 'train_epochs', [1.0]),
        ('optimizer_params', 'optimizer', b'gd'),
        ('model_params', 'alpha', float('nan')),
        ('save_params', 'dbname', None),
    ],
)
@pytest.mark.claim('hostile settings')
def test_wrong_types_in_a_file_are_refused_by_name(tmp_path, group, name, value):
    path = str(tmp_path / 'a.pkl')
    with open(path, 'wb') as file:
        pickle.dump({'params': {group: {name: value}}}, file, 3)
    with pytest.raises(ConfigError, match='--' + name):
        Config.of(params.load(path)[0], {})


# --- a loaded file and the command line -----------------------------------------------------------


def test_what_a_call_did_is_not_read_from_a_file_of_an_earlier_version(tmp_path):
    path = str(tmp_path / 'old.pkl')
    document = params.to_params(
        Config.of(
            dict(
                do_restore=True,
                dry_run=True,
                load_exp_id='x',
                gpu='3',
                alpha=0.5,
                alignment='mirror',
            ),
            {},
        )
    )
    with open(path, 'wb') as file:
        pickle.dump({'params': document}, file, 2)
    config = Config.of(params.load(path)[0], {})
    assert config.differing() == dict(alpha=0.5, alignment='mirror')


# Files that commit 84e74ca wrote, each with the settings of every rule: what differs, and digests.
OLDER = {
    'information': (
        dict(
            port=4,
            layers_list=(7, 5),
            alignment='information',
            alpha=0.25,
            beta_cycle=3.0,
            beta_schedule_type='cyclic',
            gamma_stop=0.5,
            use_sparse=True,
            seed=3,
        ),
        ('892c87140ff7be15', '324774e271d9fd31'),
    ),
    'pfa': (
        dict(alignment='pfa', expansion=2, update_forward=True),
        ('d710c71c0c21c884', 'd710c71c0c21c884'),
    ),
    'dfa': (dict(alignment='dfa'), ('f2118f8055b87428', 'f2118f8055b87428')),
}


@pytest.mark.parametrize('choices', [RULES, ANY], ids=['declared', 'nothing known'])
@pytest.mark.parametrize('name', sorted(OLDER))
def test_a_file_from_before_rules_declared_their_settings_is_read(name, choices):
    path = os.path.join(ROOT, 'tests', 'config', 'older', name + '.pkl')
    values, unknown = params.load(path, choices)
    assert {'alpha', 'gamma_schedule_rate', 'use_sparse', 'expansion'} <= set(values)
    config = Config.of(values, choices)
    assert (config.differing(), config.digests(), unknown) == (*OLDER[name], [])


@pytest.mark.parametrize(
    'names, counting',
    [
        ('alpha', dict(alpha=9.0)),
        ('alpha,train_epochs', dict(alpha=9.0, train_epochs=1.5)),
        ('beta', {}),
    ],
)
def test_a_flag_that_override_names_counts_beside_a_file(command_line, mirror, names, counting):
    answer = command_line(
        '--load_params_file=' + mirror, '--alpha=9', '--train_epochs=1.5', '--override=' + names
    )
    wanted = dict(
        alignment='mirror', alpha=0.5, layers_list=[7, 5], port=4, seed=3, override=names.split(',')
    )
    assert answer['differing'] == dict(wanted, **counting)
    assert set(answer['ignored']) == {'alpha', 'train_epochs'} - set(counting)
    of_others = {
        name for name, row in ROWS.items() if row.declared and 'mirror' not in dict(row.declared)
    }
    # Our own file gives all of them.
    assert set(KEPT) - of_others < set(answer['explicit'])


def test_what_flags_give_is_told_from_defaults(command_line):
    assert command_line('--alpha=0.5', '--noupdate_forward')['explicit'] == [
        'alpha',
        'update_forward',
    ]


def test_the_suffix_extends_that_of_the_file(command_line, tmp_path):
    path = str(tmp_path / 'a.pkl')
    params.save(Config.of(dict(alignment='symmetric', exp_id_suffix='_tpu'), {}), path)
    assert (
        command_line('--load_params_file=' + path, '--exp_id_suffix=_test0')['exp_id']
        == 'symmetric_tpu_test0'
    )
    assert command_line('--load_params_file=' + path)['exp_id'] == 'symmetric_tpu'


@pytest.fixture
def mirror(tmp_path):
    path = str(tmp_path / 'mirror.pkl')
    settings = dict(alignment='mirror', alpha=0.5, layers_list=(7, 5), port=4, seed=3)
    params.save(Config.of(settings, RULES), path)
    return path


def test_a_loaded_file_gives_the_settings(command_line, mirror):
    answer = command_line('--load_params_file=' + mirror)
    assert answer['ignored'] == []
    assert answer['differing'] == dict(
        alignment='mirror', alpha=0.5, layers_list=[7, 5], port=4, seed=3
    )


def test_beside_a_loaded_file_only_where_to_run_counts(command_line, mirror):
    answer = command_line(
        '--load_params_file=' + mirror,
        '--port=5',
        '--dbname=other',
        '--data_dir=/d',
        '--gpu=1',
        '--exp_id_suffix=_x',
        '--cache_dir=/c',
        '--model=resnet18',
        '--image_size=28',
        '--use_resnet_v2',
        '--alpha=9',
        '--noupdate_forward',
        '--layers_list=3',
        '--train_epochs=1',
        '--seed=8',
        '--dataset=cifar10',
        '--train_batch_size=10',
        '--eval_batch_size=11',
        '--precision=float16',
        '--xla',
        '--skip_bad_records=2',
        '--sync_batch_norm',
        '--do_restore',
    )
    assert answer['differing'] == dict(
        alignment='mirror',
        alpha=0.5,
        layers_list=[7, 5],
        seed=8,
        port=5,
        dbname='other',
        data_dir='/d',
        gpu='1',
        exp_id_suffix='_x',
        cache_dir='/c',
        model='resnet18',
        image_size=28,
        use_resnet_v2=True,
        dataset='cifar10',
        train_batch_size=10,
        eval_batch_size=11,
        precision='float16',
        xla=True,
        skip_bad_records=2,
        sync_batch_norm=True,
        do_restore=True,
    )
    assert sorted(answer['ignored']) == ['alpha', 'layers_list', 'train_epochs', 'update_forward']


def test_what_is_ignored_is_checked_no_more_than_the_file_allows(command_line, mirror):
    assert 'port' in command_line('--load_params_file=' + mirror, '--port=0')['config_error']
    assert 'no_such' in command_line('--load_params_file=no_such.pkl')['config_error']
    assert '.pkl' in command_line('--load_params_file=' + mirror + '.txt')['config_error']


def test_groups_may_be_empty_but_none_is_left_out():
    assert list(params.to_params(Config.of({}, {}))) == list(GROUPS)
    assert params.values_of({group: {} for group in GROUPS}) == {}
