"""Tests of groups of seeds, of comparisons, and of the rows and files that a report gives."""

import csv
import datetime
import io
import json
import re

import bson
import numpy as np
import pymongo
import pytest
from scipy import stats

import reports
from config.schema import ConfigError
from database import unfinished
from database.errors import StoreError
from reports import columns, export, groups, missing, runs, sections, view
from reports.selection import Listing, Selection

import seeds
import shown
from seeds import DBNAME, TOP1, interval, mean_angle, newest


@pytest.fixture(scope='module')
def files(mongo_server):
    """The collection of records; beside it, claims of runs that ended early, and validations."""
    client = pymongo.MongoClient(mongo_server.host, mongo_server.port)
    client.drop_database(DBNAME)
    found = client[DBNAME]['resnet18.files']
    found.create_index([('exp_id', 1), ('step', 1), ('_id', 1)])
    found.insert_many(list(seeds.documents()))
    last = found.find_one({'exp_id': 'symmetric_seed0', 'step': 30})
    found.insert_many(
        [
            seeds.validation('check', last['_id']),
            seeds.validation('of a path', '/some/checkpoint-30'),
            seeds.validation('of a stranger', bson.ObjectId()),
            seeds.validation('mirror_seed2', last['_id'], top1=0.01),  # in a training's own exp_id
        ]
    )
    client[DBNAME]['fc_3.files'].insert_many(list(seeds.run('small', 'mirror', 0, 0.75)))
    client[DBNAME]['fc_3.files'].insert_one(dict(seeds.validation('far', last['_id'])))
    claim = dict(
        process=2**30, machine='another', host='far', renewed=datetime.datetime(1970, 1, 1)
    )
    client[DBNAME]['resnet18.claims'].insert_many(
        [
            dict(claim, _id='symmetric_seed7', ended=dict(signal='SIGINT', message='SIGINT')),
            dict(claim, _id='symmetric_seed8', ended=dict(signal=None, message='step 21: lost')),
            dict(claim, _id='symmetric_seed9', ended=None),
        ]
    )
    yield found
    client.drop_database(DBNAME)
    client.close()


@pytest.fixture(scope='module')
def read(files, mongo_server, tmp_path_factory):
    """Returns a function that reads the runs."""
    cache = str(tmp_path_factory.mktemp('cache'))

    def runs_of(**which):
        which = dict(dict(curves=False), **which)
        found, trouble = runs.read(
            mongo_server.host, mongo_server.port, DBNAME, cache_dir=cache, **which
        )
        assert trouble is None
        return found

    return runs_of


@pytest.fixture(scope='module')
def found(read):
    return read()


@pytest.fixture(scope='module')
def grouped(found):
    return {group.name: group for group in groups.of(found)}


def rows(seen):
    """Returns {exp_id: {column: value}}."""
    names = [column.name for column in seen.sheet.columns]
    values = zip(*[column.values for column in seen.sheet.columns])
    return {row[names.index('exp_id')]: dict(zip(names, row)) for row in values}


# The seeds of each group, besides runs of one seed.
GROUPS = {
    'symmetric_*': ('symmetric_seed', [0, 1, 2, 3, 4]),
    'mirror_seed*': ('mirror_seed', [0, 1, 2, 3]),
    **{f'{name}_*': (f'{name}_', [0, 1]) for name in ('size', 'cifar', 'folder', 'rate', 'older')},
}


@pytest.mark.parametrize('name', GROUPS)
def test_a_group_has_the_mean_and_the_interval_of_its_seeds(files, found, name):
    row = rows(view.of_groups(found, Selection()))[name]
    prefix, numbers = GROUPS[name]
    stored = [newest(files, f'{prefix}{seed}') for seed in numbers]
    assert row['n'] == len(numbers) and row['seeds'] == ' '.join(map(str, numbers))
    expected = {
        'top1': [each['top1'] for each in stored],
        'loss': [each['loss'] for each in stored],
        'weight_angle': [mean_angle(each, 'weight_angles') for each in stored],
        'images_per_s': [131 / (0.25 + seed) for seed in numbers],
    }
    for measure, values in expected.items():
        got = [row[f'{measure}_{field}'] for field in ('mean', 'std', 'low', 'high')]
        if np.ptp(values) > 0:
            assert got == pytest.approx(interval(values), rel=1e-9)
        assert (row[measure + '_least'], row[measure + '_most']) == (min(values), max(values))
    told = dict(each.split(':') for each in row['top1_seeds'].split())
    assert {int(seed): float(value) for seed, value in told.items()} == dict(
        zip(numbers, expected['top1'])
    )


def test_only_runs_that_differ_in_their_seed_alone_are_one_group(grouped):
    single = {'older_alpha', 'script', 'of a path', 'of a stranger', 'small'}
    assert set(grouped) == set(GROUPS) | single | {'nan_*'}
    assert all(len(grouped[name].runs) == 1 for name in single)


def test_runs_that_are_not_complete_or_repeat_a_seed_are_left_out_and_named(grouped, found):
    left_out = {run.exp_id: why for run, why in grouped['symmetric_*'].left_out}
    assert left_out == {
        'symmetric_seed7': 'stopped',
        'symmetric_seed8': 'died',
        'symmetric_seed9': 'died',
        'symmetric_again': 'same seed as symmetric_seed1',
    }
    (note,) = view.of_groups(found, Selection(where='exp_id=symmetric_*')).notes
    assert all(f'{exp_id} ({why})' in note for exp_id, why in left_out.items())


def test_a_seed_without_a_number_makes_the_mean_nan(grouped):
    summary = grouped['nan_*'].summary('top1')
    assert summary.n == 2 and np.isnan(summary.mean) and grouped['nan_*'].summary('loss').n == 2
    assert grouped['script'].summary('images_per_s').n == 0


def test_one_run_has_no_interval(found):
    row = rows(view.of_groups(found, Selection()))['small']
    assert (row['n'], row['top1_mean'], row['top1_std'], row['top1_low']) == (1, 0.75, None, None)


def test_a_validation_belongs_to_its_training_and_is_no_run(found, read):
    of = {run.exp_id: run for run in found}
    assert not {'check', 'far'} & set(of) and {'of a path', 'of a stranger'} <= set(of)
    assert sorted(each.exp_id for each in of['symmetric_seed0'].validations) == ['check', 'far']
    assert of['of a path'].state == of['of a stranger'].state == runs.VALIDATED
    mixed = of['mirror_seed2']
    assert (mixed.state, mixed.result('top1')) == (runs.FINISHED, 0.93)
    assert [each.exp_id for each in mixed.validations] == ['mirror_seed2']
    (asked,) = read(exp_ids=('check',))
    assert asked.state == runs.VALIDATED and asked.result('top1') == 0.5


def test_the_digest_of_the_images_counts_and_not_their_folder(found):
    def moved(run, exp_id, seed, folder, digest):
        params = dict(run.params, environment={'dataset': {'digest': digest}})
        params['train_params'] = dict(params['train_params'], data_dir=folder, seed=seed)
        params['model_params'] = dict(params['model_params'], seed=seed)
        return runs.Run(run.collection, exp_id, run.points, params)

    run = next(run for run in found if run.exp_id == 'symmetric_seed0')
    groups_of = groups.of(
        [
            moved(run, 'one', 1, '/here', 'abc'),
            moved(run, 'two', 2, '/there', 'abc'),
            moved(run, 'three', 3, '/here', 'def'),
            run,
        ]
    )
    assert sorted(sorted(each.exp_id for each in group.runs) for group in groups_of) == [
        ['one', 'two'],
        ['symmetric_seed0'],
        ['three'],
    ]


def test_a_run_that_its_user_stopped_did_not_die(found):
    of = {run.exp_id: run for run in found}
    assert (of['symmetric_seed7'].state, of['symmetric_seed7'].why) == (runs.STOPPED, 'SIGINT')
    assert (of['symmetric_seed8'].state, of['symmetric_seed8'].why) == (runs.DIED, 'step 21: lost')
    killed = of['symmetric_seed9']
    assert killed.state == runs.DIED and 'ended without a message (it was killed' in killed.why
    assert of['symmetric_seed0'].why is None


def test_the_newest_values_are_those_of_all_records(found, read):
    whole = {run.key: run for run in read(curves=True)}
    assert set(whole) == {run.key for run in found}
    for column in columns.of_runs():
        for run in found:
            assert column.text(run) == column.text(whole[run.key]), (column.name, run.exp_id)
    assert [len(run.points) for run in found if run.exp_id == 'symmetric_seed0'] == [1]
    assert whole[runs.RunKey('resnet18', 'symmetric_seed0')].curve('top1') == [(0, 0.1), (30, 0.91)]


def test_two_rules_are_compared_over_their_common_seeds(grouped):
    compared = groups.compare(list(grouped.values()), ['symmetric_*', 'mirror_seed*'])
    differences = np.subtract(TOP1['symmetric'][:4], TOP1['mirror'])
    summary = {each.measure: each.summary for each in compared.differences}['top1']
    assert compared.seeds == [0, 1, 2, 3] and compared.others == {}
    assert summary[:5] == pytest.approx((4,) + interval(differences), rel=1e-9)
    t = stats.ttest_rel(TOP1['symmetric'][:4], TOP1['mirror'])
    assert (summary.low > 0) == (t.pvalue < 0.05)
    sheet = Listing(compared.differences, columns.of_differences(), True).sheet()
    assert [column.texts[0] for column in sheet.columns[:3]] == ['top1', '4', f'{summary.mean:.4f}']


@pytest.mark.parametrize(
    'names, told',
    [
        (['mirror'], 'needs two rules'),
        (['dfa', 'pfa'], 'no rule or exp_id pfa; the rules are '),
        (['symmetric', 'dfa'], 'groups have the rule symmetric; choose one'),
        (['size_*', 'mirror_seed*'], 'have different data '),
        (['small', 'mirror_seed*'], r'different networks \(fc_3 and resnet18\)'),
        (['older_alpha', 'mirror_seed*'], r'seeds 2\) and mirror_seed\*.* need two seeds'),
    ],
)
def test_what_cannot_be_compared_is_told(grouped, names, told):
    with pytest.raises(ConfigError, match=told):
        groups.compare(list(grouped.values()), names)


def test_settings_that_differ_between_two_rules_are_told(read):
    of = {group.name: group for group in groups.of(read())}
    one, other = of['symmetric_*'], of['mirror_seed*']
    for run in other.runs:
        run.params['learning_rate_params'] = {'learning_rate': 0.1}
    compared = groups.compare([one, other], ['symmetric', 'mirror'])
    assert compared.others == {'learning_rate': (0.05, 0.1)}


@pytest.mark.parametrize(
    'where, expected',
    [
        ('rule=mirror,top1>0.9', {'mirror_seed1', 'mirror_seed2'}),
        ('rule=mirror, top1 <= 0.88 , model=resnet18', {'mirror_seed0', 'mirror_seed3'}),
        ('exp_id=symmetric_seed*,seed=1|3', {'symmetric_seed1', 'symmetric_seed3'}),
        ('state!=finished|validated,rule!=?', {f'symmetric_seed{i}' for i in (7, 8, 9)}),
        ('model=fc_3', {'small'}),
        ('activation=relu', {'older_alpha'}),
        ('image_size>=32', {'size_0', 'size_1'}),
        ('top1=none', {'nan_1'}),
        ('top1>0.954,top1<1', {'symmetric_seed2'}),
        ('dataset==cifar10,started<2026-03-01T00:00:01', {'cifar_0', 'cifar_1'}),
        ('uncommitted=false', set()),
    ],
)
def test_where_selects_rows(found, where, expected):
    assert {run.exp_id for run in view.of_runs(found, Selection(where=where)).runs} == expected


@pytest.mark.parametrize(
    'selection, told',
    [
        (Selection(where='top1~3'), 'is not a condition'),
        (Selection(where='tpo1>3'), "no column 'tpo1'; choose from exp_id, rule"),
        (Selection(where='top1>high'), "top1 is a number and cannot be compared with 'high'"),
        (Selection(where='__import__("os").system("false")=1'), 'is not a condition'),
        (Selection(sort=('-tpo1',)), "no column 'tpo1'"),
        (Selection(columns=('exp_id', 'password')), "no column 'password'"),
    ],
)
def test_a_mistake_in_a_selection_is_told(found, selection, told):
    with pytest.raises(ConfigError, match=told):
        view.of_runs(found, selection)


def test_rows_are_sorted_and_those_without_a_value_come_last(found):
    for order in (('-top1', 'exp_id'), ('top1', '-exp_id')):
        seen = view.of_runs(found, Selection(sort=order)).runs
        values = [run.result('top1') for run in seen]
        assert values[-1] is None
        down = order[0][0] == '-'
        assert values[:-1] == sorted(values[:-1], reverse=down)
        names = [run.exp_id for run in seen if run.result('top1') == 0.6]
        assert names == sorted(names, reverse=not down) and len(names) == 3


def test_conditions_on_groups_are_not_conditions_on_runs(found):
    seen = view.of_groups(found, Selection('top1_mean>0.9', ('-top1_mean',), ('exp_id', 'alpha')))
    assert [column.values for column in seen.sheet.columns] == [['symmetric_*'], [0.02]]
    with pytest.raises(ConfigError, match="no column 'top1'; choose from .*top1_mean"):
        view.of_groups(found, Selection('top1>0.9'))
    with pytest.raises(ConfigError, match='differ in their seed; the column seeds has all'):
        view.of_groups(found, Selection('seed=0'))


def test_a_setting_that_differs_within_a_group_has_no_value(found):
    some = [run for run in found if run.exp_id in ('mirror_seed0', 'mirror_seed1')]
    for run, tensorboard in zip(some, (True, False)):
        train = dict(run.params['train_params'], tensorboard=tensorboard)
        params = dict(run.params, digests={'settings': 'a' * 16}, train_params=train)
        some[some.index(run)] = runs.Run(*run.key, run.points, params)
    seen = view.of_groups(some, Selection(columns=('tensorboard', 'alpha')))
    assert [column.values for column in seen.sheet.columns] == [[None], [0.02]]


def test_csv_and_json_hold_the_same_numbers(files, found):
    seen = view.of_groups(found, Selection(where='n>1'))
    table = list(csv.DictReader(io.StringIO(export.as_csv(seen.sheet))))
    listed = json.loads(export.as_json(seen.sheet))
    assert [row['exp_id'] for row in table] == [row['exp_id'] for row in listed]
    assert set(row['exp_id'] for row in table) == set(GROUPS) | {'nan_*'}
    for row, same in zip(table, listed):
        assert list(row) == list(same)
        numbers = GROUPS.get(row['exp_id'])
        if numbers is None:
            assert row['top1_mean'] == 'nan' and same['top1_mean'] is None
            continue
        top1 = [newest(files, f'{numbers[0]}{seed}')['top1'] for seed in numbers[1]]
        assert float(row['top1_mean']) == same['top1_mean'] == pytest.approx(np.mean(top1))
        assert float(row['top1_std']) == pytest.approx(np.std(top1, ddof=1), abs=1e-15)


def test_csv_of_runs(files, found):
    seen = view.of_runs(found, Selection(where='model=resnet18,rule=symmetric|mirror'))
    table = list(csv.DictReader(io.StringIO(export.as_csv(seen.sheet))))
    assert len(table) == len(seen.runs) > 20
    for row in table:
        query = {'exp_id': row['exp_id']}
        if row['state'] != 'validated':
            query['validates'] = {'$exists': False}
        last = files.find_one(query, sort=[('step', -1), ('_id', -1)])
        first = files.find_one({'exp_id': row['exp_id']}, sort=[('_id', 1)])
        assert (
            int(row['step']) == last['step']
            and int(row['seed']) == (last['params']['train_params']['seed'])
        )
        assert row['started'] == first['_id'].generation_time.strftime('%Y-%m-%dT%H:%M:%SZ')
        if 'validates' not in last:
            assert float(row['top1']) == last['validation_results']['topn_val']['top1']
            ranks = last['validation_results']['topn_val']['error_ranks']
            assert float(row['error_rank']) == ranks['conv0']
            assert float(row['epoch']) == last['step'] / 15
            assert float(row['images_per_s']) == 131 / last['duration']


def test_a_latex_table_is_escaped(found):
    text = export.as_latex(view.of_groups(found, Selection(where='exp_id=symmetric_*')).sheet)
    lines = text.splitlines()
    assert lines[1] == r'\begin{tabular}{lllrrrrr}' and lines[-1] == r'\end{tabular}'
    mean, std, low, high = interval(TOP1['symmetric'])
    cells = f'{mean:.4f} & {std:.4f} & {low:.4f} & {high:.4f}'
    assert lines[5] == rf'symmetric & mnist & resnet18 & 5 & {cells} \\'
    seen = view.of_groups(found, Selection(where='exp_id=symmetric_*'))
    told = export.as_latex(seen.sheet, [*seen.notes, 'a\nb']).splitlines()
    assert [line for line in told if line[0] != '%'] == [line for line in lines if line[0] != '%']
    assert told[2] == r'% a\nb' and 'symmetric_seed7 (stopped)' in told[1]  # left out of the mean
    chosen = Selection('exp_id=symmetric_seed7', (), ('exp_id', 'weight_angle', 'top5', 'why'))
    lines = export.as_latex(view.of_runs(found, chosen).sheet).splitlines()
    assert lines[3] == r'exp\_id & weight\textdegree{} & top-5 & why \\'
    assert lines[5].startswith(r'symmetric\_seed7 & ')
    assert export.escaped('a_b%&#$^~{}\\<|>"\x07') == (
        r'a\_b\%\&\#\$\textasciicircum{}\textasciitilde{}\{\}\textbackslash{}\textless{}'
        r'\textbar{}\textgreater{}\textquotedbl{}?'
    )


def test_a_page_shows_groups_and_what_belongs_to_a_run(found):
    of = {run.exp_id: run for run in found}
    some = [of['script'], of['symmetric_seed0'], of['symmetric_seed8'], of['symmetric_seed1']]
    told = shown.data(shown.page(some))
    groups_seen = told['tables'][1]
    assert 'symmetric_seed*' in shown.column(groups_seen, 'exp_id')['texts']
    mean = interval(TOP1['symmetric'][:2])[0]
    assert f'{mean:.4f}' in shown.column(groups_seen, 'top1_mean')['texts']
    remarks = dict(zip(told['runs']['names'], told['runs']['remarks']))
    assert 'validation check: step 30, top-1 0.5000' in remarks['symmetric_seed0']
    assert any(line.startswith('why: step 21: lost') for line in remarks['symmetric_seed8'])
    assert '8 with uncommitted changes' in shown.column(told['tables'][0], 'commit')['texts']


def test_an_empty_selection_has_a_head(found):
    sheet = view.of_runs(found, Selection(where='top1>2')).sheet
    assert export.as_csv(sheet).count('\n') == 1 and json.loads(export.as_json(sheet)) == []


@pytest.fixture(scope='module')
def frame(files, mongo_server, tmp_path_factory):
    """Returns a function: reports.frame of the database."""
    cache = str(tmp_path_factory.mktemp('cache'))
    place = dict(host=mongo_server.host, port=mongo_server.port, cache_dir=cache)
    return lambda per='run', **more: reports.frame(DBNAME, per, **dict(place, **more))


def test_data_frames_of_runs_and_groups(frame, found):
    for per, seen in (('run', view.of_runs), ('group', view.of_groups)):
        sheet = seen(found, Selection('model=resnet18', ('exp_id',))).sheet
        data = frame(per, where='model=resnet18', sort=['exp_id'])
        assert list(data.columns) == [column.name for column in sheet.columns]
        name = dict(run='top1', group='top1_mean')[per]
        (column,) = [column for column in sheet.columns if column.name == name]
        np.testing.assert_array_equal(data[name].astype(float), np.array(column.values, float))
    assert len(frame(where='top1>2')) == 0 and 'top1' in frame(where='top1>2')


def test_a_data_frame_of_steps_and_one_of_layers(frame, files):
    data = frame('step', exp_ids=['mirror_seed1', 'mirror_seed2'], columns=['exp_id', 'seed'])
    own = data[data.exp_id == 'mirror_seed1']
    assert list(own.step) == [0, 7, 30] and set(own.seed) == {1}
    assert np.isnan(own.model_loss.iloc[0]) and list(own.model_loss[1:]) == [0.875, 1.25]
    assert own.training_loss.iloc[1] == 3 * 0.875 and np.isnan(own.top1.iloc[1])
    stored = newest(files, 'mirror_seed1')
    assert own.loss.iloc[2] == stored['loss'] and own.top1.iloc[2] == stored['top1']
    assert own.weight_angle.iloc[2] == mean_angle(stored, 'weight_angles')
    layers = frame('layer', exp_ids=['mirror_seed1'])
    assert list(zip(layers.step, layers.layer)) == [
        (step, layer) for step in (0, 30) for layer in ('conv0', 'dense')
    ]
    assert list(layers.gradient_angle[2:]) == list(stored['gradient_angles'].values())
    assert np.isnan(layers.gradient_angle[1]) and list(layers.weightsq_norm[2:]) == [1.0, 2.0]
    assert own.error_rank.iloc[2] == stored['error_ranks']['conv0'] == 3.5
    assert layers.error_rank.iloc[2] == 3.5 and np.isnan(layers.error_rank.iloc[3])
    assert np.isnan(layers.error_rank.iloc[0])  # an older record does not have the measure
    with pytest.raises(ValueError, match='rows'):
        frame('rows')


@pytest.mark.parametrize(
    'place, told',
    [
        (dict(exp_ids=['mirror_seed1', 'miror']), 'There is no experiment miror in .* It has: '),
        (dict(collname='resnet81'), 'There is no collection resnet81 in .* It has: fc_3, resnet18'),
    ],
)
def test_a_data_frame_of_what_is_not_there_is_an_error(frame, place, told):
    for per in ('run', 'layer'):
        with pytest.raises(StoreError, match=told):
            frame(per, **place)


def test_a_part_of_a_run_has_no_curve_and_no_rows_of_records(frame, files, read):
    both = ['mirror_seed1', 'mirror_seed2']
    with unfinished.marked(files.database['resnet18.unfinished'], 'mirror_seed1', 'import'):
        assert sorted(frame(exp_ids=both).state) == ['finished', 'half imported']
        for per in ('step', 'layer'):
            assert set(frame(per, exp_ids=both).exp_id) == {'mirror_seed2'}
        (part,) = read(exp_ids=['mirror_seed1'])
        assert sections.chosen([part], most=3) == []  # although no run of its group is complete


@pytest.mark.parametrize(
    'place, told',
    [
        (('sedes', None, ()), f'no database sedes at .* runs there: .*{DBNAME}'),
        ((DBNAME, 'resnet81', ()), 'no collection resnet81 in .* It has: fc_3, resnet18.'),
        (
            (DBNAME, None, ('mirror_seed11', 'small')),
            'no experiment mirror_seed11 in .* It has: mirror_seed1, ',
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is(files, mongo_server, place, told):
    assert re.search(told, missing.message(mongo_server.host, mongo_server.port, *place))


def test_nothing_is_missing(files, mongo_server):
    place = mongo_server.host, mongo_server.port, DBNAME
    assert missing.message(*place, 'resnet18', ('check', 'mirror_seed0')) is None
