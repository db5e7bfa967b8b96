"""Declarations of rules: their rows in the table of settings, their errors, and their values."""

import dataclasses
import typing

import pytest

from alignment.rules import RULES, declarations
from config import params, schema
from config.declared import OLDER, RuleSettings, Scheduled, inferred, rows_of
from config.flags import WHOLE_NUMBERS
from config.rows import MEANING, TRAINING, ConfigError
from config.schema import Config

OURS = {'alignment': declarations()}
DELTA = ('coefficient', 0.25, 'weight of the distance')
ROBUST = ('switch', False, 'bound the distance')
WIDTH = ('size', 3, 'units in one')


def registry(**rules):
    """Returns the choices with our rules and more: {rule: {name: (part, default, help)}}."""
    return {'alignment': dict(declarations(), **rules)}


NEW = registry(new=dict(delta=DELTA, robust=ROBUST, width=WIDTH))


def refusal(**rules):
    """Returns the message with which declarations are refused."""
    with pytest.raises(ConfigError) as caught:
        schema.rows_of(registry(**rules))
    return str(caught.value)


def test_the_rows_of_each_kind():
    rows = schema.rows_of(NEW)
    found = [name for name in rows if name not in schema.rows_of(OURS)]
    assert found == [
        'delta',
        'delta_start',
        'delta_stop',
        'delta_cycle',
        'delta_schedule_rate',
        'delta_schedule_type',
        'robust',
        'width',
    ]
    assert {rows[name].group for name in found} == {'model_params'}
    assert {rows[name].scope for name in found[:6]} == {TRAINING}
    assert (rows['robust'].scope, rows['width'].scope) == (MEANING, MEANING)
    assert rows['delta'].help == 'new: weight of the distance; default: 0.25 (new)'
    assert (rows['delta'].kind, rows['delta'].default) == (float, None)
    assert (rows['robust'].kind, rows['robust'].default) == (bool, False)
    assert rows['robust'].help == 'new: bound the distance'
    assert (rows['width'].kind, rows['width'].default, rows['width'].at_least) == (int, 3, 1)


def test_a_coefficient_is_like_those_of_our_rules():
    ours, theirs = schema.rows_of(OURS), schema.rows_of(NEW)
    for suffix in ('_start', '_stop', '_cycle', '_schedule_rate', '_schedule_type'):
        alpha, delta = ours['alpha' + suffix], theirs['delta' + suffix]
        assert delta.help == alpha.help.replace('alpha', 'delta')
        assert delta[1:5] == alpha[1:5] and delta[6:10] == alpha[6:10]
        assert list(delta.needs) == [need.replace('alpha', 'delta') for need in alpha.needs]


def test_the_rows_come_after_the_rule():
    names = list(schema.rows_of(NEW))
    assert names.index('alignment') + 1 == names.index('alpha') < names.index('delta')
    assert names.index('delta') < names.index('robust') < names.index('width')
    assert names.index('width') + 1 == names.index('update_forward')


def test_rules_may_share_a_setting():
    rows = schema.rows_of(
        registry(
            new=dict(alpha=('coefficient', 7.0, ''), width=WIDTH),
            other=dict(width=('size', 5, 'units of another kind')),
            third=dict(width=('size', 5, 'units in one')),
        )
    )
    assert ('new', 7.0) in rows['alpha'].declared and rows['alpha'].default is None
    assert rows['width'].declared == (('new', 3), ('other', 5), ('third', 5))
    assert rows['width'].default is None
    assert rows['width'].help == (
        'new, third: units in one; other: units of another kind; default: 3 (new), 5 (other, third)'
    )


def test_a_name_cannot_be_two_things():
    assert refusal(new=dict(alpha=('switch', False, ''))) == (
        'alpha is a coefficient of symmetric and a switch of new: rules can only share a setting '
        'if all declare it as the same part'
    )


@pytest.mark.parametrize(
    'name, declaration',
    [
        ('learning_rate', DELTA),
        ('model', ROBUST),
        ('seed', WIDTH),
        ('xla', DELTA),
        ('noxla', WIDTH),  # which switches --xla off
        ('load_params_file', ROBUST),
        ('trials', WIDTH),
        ('num_classes', WIDTH),
        ('alpha_start', WIDTH),
        ('use_bias_forward', ROBUST),
    ],
)
def test_a_name_that_is_taken_is_refused(name, declaration):
    assert refusal(new={name: declaration}) == (
        f'the rule new declares the {declaration[0]} {name}, but that name is taken: choose another'
    )


def test_a_derived_name_that_is_taken_is_refused(monkeypatch):
    rows = dict(schema.ROWS, delta_cycle=schema.ROWS['seed'])
    monkeypatch.setattr(schema, 'ROWS', rows)
    assert refusal(new=dict(delta=DELTA)) == (
        'the rule new declares the coefficient delta, which adds the setting delta_cycle, but '
        'that name is taken: choose another'
    )


@pytest.mark.parametrize(
    'declaration, words',
    [
        (('size', 0, ''), 'must be at least 1, not 0'),
        (('size', 2.5, ''), 'must be of type int, not 2.5'),
        (('switch', 1, ''), 'must be of type bool, not 1'),
        (('coefficient', 'x', ''), "must be of type float, not 'x'"),
        (('coefficient', None, ''), 'needs a value'),
    ],
)
def test_a_default_that_cannot_be_is_refused(declaration, words):
    sentence = refusal(new=dict(delta=declaration))
    assert sentence == f'the rule new declares the {declaration[0]} delta, whose default {words}'


# --- in a Config ----------------------------------------------------------------------------------


def annotation(row):
    """Returns the type of the field for a row in Config."""
    kind = {list: typing.Tuple[str, ...]}.get(row.kind, row.kind)
    if row.name in WHOLE_NUMBERS:
        kind = typing.Tuple[int, ...]
    return typing.Optional[kind] if row.default is None else kind


def test_the_fields_of_a_config_are_the_rows():
    fields = {field.name: field for field in dataclasses.fields(Config)}
    assert fields.pop('rule_settings').default == RuleSettings()
    assert list(fields) == list(schema.ROWS)
    types = typing.get_type_hints(Config)
    assert {name: (types[name], field.default) for name, field in fields.items()} == {
        name: (annotation(row), row.default) for name, row in schema.ROWS.items()
    }
    assert {name: type(field.default) for name, field in fields.items()} == {
        name: type(row.default) for name, row in schema.ROWS.items()
    }


def test_what_a_config_tells_of_a_rule():
    config = Config.of(
        dict(
            alignment='new', delta=0.5, delta_stop=0.75, robust=True, delta_schedule_type='linear'
        ),
        NEW,
    )
    assert config.coefficient('delta') == Scheduled(0.5, stop=0.75, kind='linear')
    assert config.coefficient('alpha') == Scheduled()
    assert (config.of_rule('robust'), config.of_rule('width'), config.of_rule('no')) == (
        True,
        3,
        None,
    )
    assert (config['delta'], config['port']) == (0.5, 29029)
    assert config.differing() == dict(
        alignment='new', delta=0.5, delta_stop=0.75, delta_schedule_type='linear', robust=True
    )
    assert Config.of(config.values(), NEW) == config
    changed = config.replaced(dict(width=2, port=5))
    assert (changed['width'], changed.port, config['width'], config.port) == (2, 5, 3, 29029)
    assert hash(changed) != hash(config) and changed != config


def test_the_same_settings_are_equal_whoever_declares_them():
    values = dict(alignment='symmetric', alpha=0.5)
    ours, theirs, nobody = [Config.of(values, choices) for choices in (OURS, NEW, {})]
    assert ours == theirs == nobody and len({ours, theirs, nobody}) == 1
    assert ours.digests() == theirs.digests() == nobody.digests()
    assert ours != Config.of(dict(values, alpha=0.25), OURS)


@pytest.mark.parametrize('rule', [None] + sorted(RULES))
def test_a_new_rule_changes_no_digest_and_no_file(rule):
    values = dict(alignment=rule, seed=3)
    ours, theirs = Config.of(values, OURS), Config.of(values, NEW)
    assert ours.digests() == theirs.digests()
    assert params.to_params(ours) == params.to_params(theirs)
    assert params.to_keep(ours) == params.to_keep(theirs)


def test_digests_tell_the_settings_of_a_rule_apart():
    digests = Config.of(dict(alignment='new'), NEW).digests()
    for values, (meaning, settings) in [
        (dict(delta=0.5), (True, False)),
        (dict(delta_start=0.5), (True, False)),
        (dict(robust=True), (False, False)),
        (dict(width=2), (False, False)),
        (dict(width=3), (True, True)),
    ]:
        other = Config.of(dict(values, alignment='new'), NEW).digests()
        assert (other.meaning == digests.meaning, other.settings == digests.settings) == (
            meaning,
            settings,
        ), values


def test_a_params_dictionary_has_the_settings_of_its_own_rule():
    model = params.to_params(Config.of(dict(alignment='new', delta=0.5), NEW))['model_params']
    assert (model['delta'], model['robust'], model['width']) == (0.5, False, 3)
    assert model['delta_stop'] == 1.0
    assert {'alpha', 'expansion', 'use_sparse'}.isdisjoint(model)
    # A setting that was given is kept, even if it has no effect.
    model = params.to_params(Config.of(dict(alignment='new', use_sparse=True), NEW))['model_params']
    assert model['use_sparse'] is True and 'reconstruction_amp' not in model


def test_settings_of_another_checkout_are_refused_by_name(tmp_path):
    path = str(tmp_path / 'new.pkl')
    params.save(Config.of(dict(alignment='new', delta=0.5), NEW), path)
    assert params.load(path, NEW)[0]['delta'] == 0.5
    with pytest.raises(ConfigError, match='do not exist here: .*delta.* in model_params'):
        params.load(path, OURS)
    values, unknown = params.load(path)  # it is read if the rules are not known
    assert values['delta'] == 0.5 and unknown == []


def test_a_default_that_rules_do_not_agree_on_is_the_rules_own():
    both = registry(new=dict(width=('size', 3, '')), other=dict(width=('size', 5, '')))
    assert Config.of(dict(alignment='new'), both).of_rule('width') is None
    for rule, value, held in [
        ('new', 3, None),  # a record contains the size that was used, although it was not given
        ('new', 5, 5),
        ('other', 5, None),
        ('other', 3, 3),
        ('symmetric', 3, None),  # older records contain the settings of every rule
        ('symmetric', 4, 4),
    ]:
        config = Config.of(dict(alignment=rule, width=value), both)
        assert config.of_rule('width') == held, (rule, value)


# --- if no rule declares it -----------------------------------------------------------------------


def test_what_older_files_hold_is_known():
    ours = schema.rows_of(OURS)
    told = {row.name: (row.kind, row.default) for row in inferred(OLDER)}
    known = {name: (row.kind, row.default) for name, row in ours.items() if row.declared}
    assert known.pop('undivided_error') == (bool, False)  # it is newer than these files
    assert told == known
    full = {row.name: row.default for row in inferred(OLDER)}
    assert Config.of(dict(full, alignment='dfa'), {}).differing() == {'alignment': 'dfa'}


def test_rows_are_inferred_by_names_and_values():
    values = dict(delta=0.5, delta_stop=0.5, zeta_start=0.25, eta=None, robust=True, width=4)
    rows = {row.name: row for row in inferred(dict(values, text='no setting', several=[1]))}
    assert {row.coefficient for row in rows.values()} == {'delta', 'zeta', 'eta', None}
    assert len(rows) == 3 * 6 + 2
    assert (rows['robust'].kind, rows['robust'].default) == (bool, False)
    assert (rows['width'].kind, rows['width'].default) == (int, None)
    own = {row.name: row.default for row in inferred(dict(width=4), own=dict(width=9))}
    assert own == {'width': 9}


def test_no_two_rows_have_one_name():
    rows = rows_of(OURS['alignment'], ())
    assert len({row.name for row in rows}) == len(rows) == 3 * 6 + 4 + 1
