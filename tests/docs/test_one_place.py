"""Tests that what docs/adding.md says about optimisers, schedules and metrics is true.

Each of them is one entry, which is added to a copy of the program. The other places that the page
names must be touched too, and no others.
"""

import os
import re

import commands
import pymongo
import pytest

import test_adding
from database.layout import faults

pytestmark = pytest.mark.slow

# file: (what an entry comes after, as a regular expression, and the entry)
ENTRIES = {
    'training/optimizers.py': (
        r'^OPTIMIZERS\b.* = \{\n',
        "    'plain': lambda rate, step, options: tf.train.GradientDescentOptimizer(rate),\n",
    ),
    'training/schedules.py': (
        r'^KINDS\b.* = \{\n',
        "    'inverse': lambda value, rate, p: value / (1.0 + rate * p),\n",
    ),
    'alignment/view.py': (r'^ACTIVATIONS\b.* = \{', "'elu': tf.nn.elu, "),
    'training/metrics.py': (
        r"^        'images': tf\.reduce_sum\(mask\),\n",
        "        'top3': tf.reduce_sum(mask * _in_top(3, logits, labels)),\n",
    ),
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Returns a function that runs a command, without its `python`, with the entries -> Done."""
    folder = tmp_path_factory.mktemp('program')
    test_adding.copy_program(folder)
    for path, (before, entry) in ENTRIES.items():
        text = (folder / path).read_text(encoding='utf-8')
        (found,) = re.finditer(before, text, re.MULTILINE)
        text = text[: found.end()] + entry + text[found.end() :]
        (folder / path).write_text(text, encoding='utf-8')
    forks = commands.Forks(str(tmp_path_factory.mktemp('home')), str(folder))
    yield forks.run
    forks.close()


def test_one_entry_makes_an_optimiser_a_schedule_a_non_linearity_and_a_metric(
    run, mongo_server, tmp_path
):
    what = ['--alignment=symmetric', '--model=fc', '--layers_list=8', '--activation=elu']
    how = ['--optimizer=plain', '--alpha_schedule_type=inverse', '--alpha_schedule_rate=0.5']
    where = [f'--port={mongo_server.port}', f'--cache_dir={tmp_path}', '--dbname=one_place']
    size = ['--train_epochs=1', '--train_batch_size=400', '--save_alignment_coefficients']
    commands.succeeded(run('train.py', *what, *how, *where, *size))
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        record = client['one_place']['fc_8.files'].find_one(sort=[('step', -1)])
        client.drop_database('one_place')  # the layout of the tests after this one lacks the metric
    results = record['validation_results']['topn_val']
    assert results['top1'] <= results['top3'] <= results['top5']
    assert results['alignment_coefficients']['alpha'] == pytest.approx(1e-3 / 1.5, rel=0.1)
    # As the docs say, the layout of the records has to know a metric.
    assert faults(record) == ['validation_results.topn_val.top3 is not a known result']


def test_the_help_names_them(run):
    text = ' '.join(run('train.py', '--help').out.split())
    for flag, value in (
        ('optimizer', 'plain'),
        ('alignment_optimizer', 'plain'),
        ('activation', 'elu'),
        ('activation_fn_override', 'elu'),
        ('beta_schedule_type', 'inverse'),
    ):
        assert re.search(rf'--{flag}: [^(]*(\([^o][^(]*)*\(one of: [^)]*\b{value}\b', text), flag


def test_the_places_that_the_docs_name_exist():
    table = test_adding.text().partition('\n## All else\n')[2]
    paths = set(re.findall(r'`(\w+/\w+(?:\.py)?)`', table))
    assert len(paths) > 8
    for path in paths:
        found = os.path.join(test_adding.ROOT, path)
        assert os.path.exists(found) or os.path.exists(found + '.py'), path
