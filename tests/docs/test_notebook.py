"""The notebook of the documentation runs, and its numbers are those of the database."""

import json
import os

import numpy as np
import pymongo
import pytest

from test_architecture import ROOT

PATH = os.path.join(ROOT, 'docs', 'notebook.ipynb')
DBNAME = 'notebook'
TOP1 = {'mirror': [0.75, 0.5, 0.9], 'dfa': [0.25, 0.35]}


def read():
    with open(PATH, encoding='utf-8') as file:
        return json.load(file)


def records():
    """Yields the records of a few runs, with two validations each."""
    for rule, values in TOP1.items():
        for seed, top1 in enumerate(values):
            params = {
                'model_params': {'alignment': rule, 'model': 'fc', 'image_shape': [9, 9, 1]},
                'train_params': {'num_steps': 7, 'seed': seed, 'dataset': 'mnist'},
            }
            for step, reached in ((0, 0.1), (7, top1)):
                angles = {'conv0': 90.0 - step - seed, 'dense': 80.0}
                results = dict(top1=reached, weight_angles=angles, gradient_angles=angles)
                yield dict(
                    exp_id=f'{rule}_{seed}',
                    step=step,
                    params=params,
                    duration=0.5,
                    validation_results={'topn_val': results},
                )


def test_it_is_stored_without_outputs():
    cells = [cell for cell in read()['cells'] if cell['cell_type'] == 'code']
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in cells)


@pytest.mark.nightly
def test_it_runs_and_shows_the_runs_of_the_database(mongo_server, tmp_path):
    nbclient, nbformat = pytest.importorskip('nbclient'), pytest.importorskip('nbformat')
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        client[DBNAME]['fc.files'].insert_many(list(records()))
        notebook = nbformat.read(PATH, as_version=4)
        cells = {cell['id']: cell for cell in notebook.cells}
        place = dict(dbname=DBNAME, host=mongo_server.host, port=mongo_server.port)
        cells['place'].source = f'place = dict({place}, cache_dir={str(tmp_path)!r})'
        resources = {'metadata': {'path': ROOT}}
        nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
        client.drop_database(DBNAME)
    (shown,) = [output for output in cells['groups'].outputs if 'data' in output]
    means = [f'{np.mean(TOP1[rule]):.6f}' for rule in ('mirror', 'dfa')]
    assert all(mean in shown['data']['text/plain'] for mean in means)
    assert f'{np.std(TOP1["mirror"], ddof=1):.6f}' in shown['data']['text/plain']
    for name in ('compared', 'steps', 'layers'):
        assert any('image/png' in output.get('data', {}) for output in cells[name].outputs)
