"""Settings files in JSON: round trips of recipes and odd values, comments, and what is refused."""

import json
import os
import pickle
import random

import pytest

from alignment.rules import declarations
from config import params, recipes, text
from config.rows import Scope
from config.schema import Config, ConfigError, rows_of

RULES = {'alignment': declarations()}
ROWS = rows_of(RULES)
# Values at which a text could go wrong.
FLOATS = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, 1e22, 123456789.0, 3]
TEXTS = ['', ' ', 'ü', '\u2028"\\/\n\t\x00\x7f', '🙂', '\udcff', 'NaN', 'null', '-7', 'comment']
WHOLE = [1, 2, 7, 2**53 + 1, 2**63 - 1]


def load(folder, content):
    path = str(folder / 'file.json')
    with open(path, 'wb') as file:
        file.write(content if isinstance(content, bytes) else content.encode('utf-8'))
    return params.load(path, RULES)[0]


def refusal(folder, content):
    """Returns what is wrong with a file of this content, without its name."""
    path = str(folder / 'file.json')
    with pytest.raises(ConfigError) as caught:
        load(folder, content)
    told = str(caught.value)
    assert told.startswith(('--load_params_file=' + path, path)) and '\n' not in told
    return told.partition('file.json')[2].lstrip(': ')


def drawn(rng):
    """Returns a Config of random settings, many of them impossible together but legal by type."""
    values = {}
    for name, row in ROWS.items():
        if rng.random() < 0.5 or row.choices and not isinstance(row.choices, tuple):
            continue
        values[name] = {
            bool: rng.random() < 0.5,
            int: rng.choice(WHOLE),
            float: rng.choice(FLOATS + [rng.uniform(0, 1), rng.expovariate(1e-9)]),
            str: rng.choice(row.choices or TEXTS),
            list: tuple(rng.sample(TEXTS, rng.randrange(4))),
        }[row.kind]
        if name == 'layers_list':
            values[name] = tuple(rng.sample(WHOLE, 2))
        if row.at_most is not None and row.kind is not bool:
            values[name] = row.kind(1)
    return Config.of({}, RULES).replaced(values)


@pytest.mark.parametrize('seed', range(20))
def test_json_and_pickle_bring_back_the_same_settings(tmp_path, seed):
    config = drawn(random.Random(seed))
    loaded = []
    for ending in params.ENDINGS:
        path = str(tmp_path / ('a' + ending))
        params.save(config, path)
        loaded.append(params.load(path, RULES)[0])
    assert loaded[0] == loaded[1] and len(loaded[0]) > 80
    assert [type(value) for value in loaded[0].values()] == [
        type(value) for value in loaded[1].values()
    ]
    assert os.listdir(str(tmp_path)) and not [
        name for name in os.listdir(str(tmp_path)) if name.endswith('.part')
    ]
    assert {name for name in loaded[0] if ROWS[name].scope is Scope.CALL} == set()


@pytest.mark.parametrize('name', sorted(recipes.RECIPES))
def test_a_recipe_in_json_is_the_recipe(tmp_path, name):
    (path,) = recipes.write([name], str(tmp_path), RULES, params.JSON)
    expected = Config.of(recipes.RECIPES[name].settings, RULES)
    assert Config.of(params.load(path, RULES)[0], RULES) == expected
    with open(path, encoding='utf-8') as file:
        document = json.load(file)
    (pickled,) = recipes.write([name], str(tmp_path), RULES)
    with open(pickled, 'rb') as file:
        assert document == pickle.load(file)


def test_the_command_writes_and_shows_json(tmp_path, capsys):
    assert recipes.main(['mnist_mirror', '--json', '--folder', str(tmp_path)]) == 0
    assert recipes.main(['mnist_mirror', '--folder', str(tmp_path)]) == 0
    assert sorted(os.listdir(str(tmp_path))) == ['mnist_mirror.json', 'mnist_mirror.pkl']
    capsys.readouterr()
    shown = []
    for ending in params.ENDINGS:
        assert recipes.main(['show', str(tmp_path / ('mnist_mirror' + ending))]) == 0
        shown.append(capsys.readouterr().out.splitlines())
    assert shown[0][1:] == shown[1][1:] and '--alignment=mirror' in shown[0]
    assert 'JSON' in shown[1][0] and 'JSON' not in shown[0][0]


def test_a_file_has_a_line_for_each_setting_and_ends_with_one(tmp_path):
    path = str(tmp_path / 'a.json')
    params.save(Config.of({}, RULES), path)
    with open(path, encoding='utf-8') as file:
        lines = file.read().split('\n')
    assert lines[-1] == '' and '      "seed": 0' in [line.rstrip(',') for line in lines]


def test_comments_may_be_anywhere_and_a_part_of_the_settings_will_do(tmp_path):
    content = """\ufeff
        {"_comment": ["two", {"lines": NULL}], "params": {"comment": "a group", "train_params": {
        "comment": 1, "seed": 3, "_comment": "why 3", "comment": "again"}}}
    """.replace('NULL', 'null')
    assert load(tmp_path, content) == {'seed': 3}
    assert load(tmp_path, '{"params": {}}') == {}


@pytest.mark.parametrize('content, told', [
    ('{"params": {"train_params": {"sede": 1}}}', "'sede' in train_params (did you mean seed?)"),
    ('{"params": {"model_params": {"seed": 1}}}', "'seed' in model_params (it belongs to train_"),
    ('{"params": {"trian_params": {}}}', "'trian_params' (did you mean train_params?)"),
    ('{"params": {"model_params": {"alfa": 1.0}}}', "(did you mean alpha?)"),
    ('{"params": {"train_params": {"qqqq": 1}}}', "'qqqq' in train_params"),
    ('{"params": {"train_params": {"train_epochs": NaN}}}', 'NaN is not a finite number'),
    ('{"params": {"train_params": {"train_epochs": -Infinity}}}', '-Infinity is not a finite'),
    ('{"params": {"train_params": {"train_epochs": 1e999}}}', "the number '1e999' is too large"),
    ('{"params": {"train_params": {"seed": %s}}}' % ('9' * 5000), 'is too large'),
    ('{"params": {"train_params": {"seed": 1, "seed": 2}}}', "the key 'seed' is given twice"),
    ('{"params": {}, "params": {}}', "the key 'params' is given twice"),
    ('{"params": {"train_params": {"seed": "3"}}}', "--seed must be of type int, not '3'"),
    ('{"params": {"train_params": {"seed": 3.0}}}', '--seed must be of type int, not 3.0'),
    ('{"params": {"train_params": {"seed": true}}}', '--seed must be of type int, not True'),
    ('{"params": {"train_params": {"seed": null}}}', '--seed needs a value'),
    ('{"params": {"model_params": {"layers_list": "7,5"}}}', '--layers_list must be a list'),
    ('{"params": {"train_params": 3}}', 'train_params must be a dictionary'),
    ('{"params": []}', 'holds list, not a dictionary'),
    ('{"params": {}, "more": 1}', 'not a settings file'),
    ('[1]', 'not a settings file'),
    ('', 'it is not JSON'),
    ('{"params": {}} {}', 'it is not JSON'),
    ("{'params': {}}", 'it is not JSON'),
    ('# yaml\nparams:\n  seed: 3\n', 'it is not JSON'),
    (b'\xff\xfe{\x00}\x00', 'it is no text in UTF-8'),
    (pickle.dumps({'params': {}}, 2), 'it is no text in UTF-8'),
    ('[' * 100000, 'it is nested too deeply'),
    ('{"a":' * 100000, 'it is nested too deeply'),
], ids=lambda value: repr(value)[:60])  # fmt: skip
def test_a_file_that_cannot_be_is_refused_in_a_sentence(tmp_path, content, told):
    assert told in refusal(tmp_path, content)


@pytest.mark.parametrize('seed', range(5))
def test_a_damaged_file_is_refused_or_read(tmp_path, seed):
    """No change of a byte, and no cut, gives anything but settings or a sentence."""
    rng, path = random.Random(seed), str(tmp_path / 'file.json')
    params.save(Config.of({'alignment': 'mirror'}, RULES), path)
    with open(path, 'rb') as file:
        content = file.read()
    refused = 0
    for _ in range(60):
        place = rng.randrange(len(content))
        changed = content[:place]
        if rng.random() < 0.7:
            changed += bytes([rng.randrange(256)]) + content[place + 1 :]
        try:
            Config.of(load(tmp_path, changed), RULES)
        except ConfigError:
            refused += 1
    assert refused > 10


def test_a_pickle_with_the_name_of_a_text_and_the_other_way_round(tmp_path):
    config = Config.of({}, RULES)
    for written, read in (('a.pkl', 'b.json'), ('a.json', 'b.pkl')):
        params.save(config, str(tmp_path / written))
        os.replace(str(tmp_path / written), str(tmp_path / read))
        with pytest.raises(ConfigError, match=read):
            params.load(str(tmp_path / read), RULES)


def test_what_json_cannot_hold_is_not_written(tmp_path):
    path = str(tmp_path / 'a.json')
    config = Config.of({}, RULES).replaced({'learning_rate': float('inf')})
    with pytest.raises(ConfigError, match='not finite'):
        params.save(config, path)
    assert os.listdir(str(tmp_path)) == []


def test_a_number_is_read_as_it_was_written():
    for number in FLOATS + WHOLE:
        assert text.loads(text.dumps({'a': number})) == {'a': number}
        assert type(text.loads(text.dumps([number]))[0]) is type(number)
