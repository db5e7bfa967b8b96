"""Records of every earlier version are read, as the commands of that time wrote them.

tests/database/older holds the last record of the same small training for each version: those of
layout 1, in which fields were added on the way, and one of each later layout.
"""

import glob
import os

import pymongo
import pytest
from bson import json_util

from alignment.rules import declarations
from config import flags
from config.schema import Config
from database import layout
from reports import repeat, runs

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'older')
NAMES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(FOLDER, '*.json')))
RULES = {'alignment': declarations()}
# The training of every sample.
SETTINGS = dict(
    model='fc',
    layers_list=(7,),
    activation='tanh',
    alignment='symmetric',
    alpha=0.02,
    train_batch_size=400,
    train_epochs=0.3,
    optimizer='momentum',
    learning_rate=0.25,
    seed=3,
)


def sample(name):
    with open(os.path.join(FOLDER, name), encoding='utf-8') as file:
        return json_util.loads(file.read(), json_options=json_util.RELAXED_JSON_OPTIONS)


def config_of(command):
    """Returns the Config of the flags in a line of shell without quotes."""
    values = flags.FlagValues()
    flags.define_flags(RULES, values)
    values(command.split()[1:])
    return Config.of(flags.given_flags(values, RULES), RULES)


def test_there_is_a_sample_of_every_version():
    versions = {int(name.split('_')[1].split('.')[0]) for name in NAMES}
    assert versions == set(range(layout.FIRST, layout.VERSION + 1))
    assert len(NAMES) >= 5


@pytest.mark.parametrize('name', NAMES)
def test_a_sample_is_valid_in_its_version(name):
    document = sample(name)
    assert layout.version(document) == int(name.split('_')[1].split('.')[0])
    assert layout.faults(document) == []
    assert document['step'] == 3 and document['saved_filters'] is True


@pytest.mark.parametrize('name', NAMES)
def test_the_command_of_a_sample_has_its_settings(name):
    document = sample(name)
    *comments, command = repeat.command(document['params'])
    config, expected = config_of(command), Config.of(SETTINGS, RULES)
    assert document['params'].get('digests') in (None, expected.digests()._asdict())
    if 'declared' not in document['params']['model_params']:
        # The record does not tell the default of the rule, 0.002, from a setting.
        expected = Config.of(dict(SETTINGS, beta=0.002), RULES)
    assert config.digests() == expected.digests() and config.seed == 3
    assert config.exp_id_suffix == '_old_repeated' and config.port == 29777
    commit = document['params']['provenance']['commit']
    assert (f'git checkout --detach {commit}' in comments) == bool(commit)


@pytest.mark.parametrize('name', NAMES)
def test_the_report_reads_a_sample(name, mongo_server):
    document, dbname = sample(name), name.replace('.json', '')
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client[dbname]['fc_7.files'].insert_one(document)
        (run,), trouble = runs.read(mongo_server.host, mongo_server.port, dbname)
        client.drop_database(dbname)
    assert trouble is None
    assert (run.state, run.rule, run.step, run.steps) == ('finished', 'symmetric', 3, 3)
    assert run.last('top1') == document['validation_results']['topn_val']['top1']
    found = run.settings
    found.pop('beta', None)  # older records do not tell the default of a rule from a setting
    assert found.pop('iterations_per_loop', 100) == 100  # an earlier default, for TPUs
    expected = dict(SETTINGS, layers_list=[7])
    del expected['model']  # it is the default
    assert found == expected


def test_a_version_that_is_not_known_yet_is_named():
    document = dict(sample('layout_2.json'), layout=layout.VERSION + 1)
    assert layout.faults(document) == [
        f'layout is {layout.VERSION + 1}: a newer version of this program wrote the record'
    ]
    assert layout.version(dict(document, layout='2')) == layout.FIRST


@pytest.mark.parametrize('name', sorted(layout.ENVIRONMENT))
def test_a_missing_fact_of_the_environment_is_found(name):
    document = sample('layout_2.json')
    document['params']['environment'].pop(name, None)
    fault = f'params.environment.{name} is missing or has another type'
    assert layout.faults(document) == ([] if name in layout.SINCE_LATER else [fault])
    document['params']['environment'][name] = object()
    assert layout.faults(document) == [fault]


def test_an_environment_is_needed_and_has_only_known_facts():
    document = sample('layout_2.json')
    document['params']['environment']['secret'] = 1
    assert layout.faults(document) == ['params.environment.secret is not a known fact']
    del document['params']['environment']
    assert layout.faults(document) == ['params.environment is missing']
