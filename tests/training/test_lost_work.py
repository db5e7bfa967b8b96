"""Whole trainings with files of earlier runs, damaged or lost checkpoints, and failing buckets."""

import hashlib
import io
import os
import re
import tarfile

import numpy as np
import pymongo
import pytest

import tiny
from training import checkpoints, finding, jobs, places, restoring
from training.checkpoints import CheckpointError
from training.errors import TrainingError

pytestmark = pytest.mark.slow
COLLNAME = 'fc_5'


@pytest.fixture
def client(mongo_server):
    """A client of the tests' MongoDB."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as opened:
        yield opened


@pytest.fixture
def settings(mongo_server, tmp_path, request):
    """Returns a function: (epochs, ...) -> the Config of a training that saves after each step.

    An epoch has 3 steps.
    """

    def make(train_epochs, **more):
        return tiny.config(
            **dict(
                dict(
                    port=mongo_server.port,
                    dbname=request.node.name[:30].split('[')[0],
                    cache_dir=str(tmp_path / 'cache'),
                    learning_rate=0.1,
                    train_epochs=train_epochs,
                    epochs_per_checkpoint=0.4,
                    checkpoint_max=2,
                ),
                **more,
            )
        )

    return make


def records(client, config, exp_id=None):
    """Returns the records of an experiment, by step."""
    return list(
        client[config.dbname][COLLNAME + '.files']
        .find({'exp_id': exp_id or config.exp_id})
        .sort('step', 1)
    )


def local(config):
    """Returns the folder of local checkpoints, and their steps."""
    folder = places.cache_folder(config, places.of(config))
    return folder, sorted(
        int(match.group(1))
        for match in (re.fullmatch(r'checkpoint-(\d+)\.index', name) for name in os.listdir(folder))
        if match
    )


def flip_a_bit(client, config, record):
    """Changes a bit of a weight in an archive in MongoDB, as if it had been stored that way."""
    bucket = client[config.dbname][COLLNAME]
    (chunk,) = bucket.chunks.find({'files_id': record['_id']})
    content = bytearray(chunk['data'])
    with tarfile.open(fileobj=io.BytesIO(bytes(content))) as tar:
        (member,) = [each for each in tar if '.data-' in each.name]
    content[member.offset_data + member.size // 2] ^= 16
    bucket.chunks.update_one({'_id': chunk['_id']}, {'$set': {'data': bytes(content)}})
    sums = {name: hashlib.new(name, bytes(content)).hexdigest() for name in ('md5', 'sha256')}
    bucket.files.update_one({'_id': record['_id']}, {'$set': sums})


def test_a_training_goes_on_over_files_of_later_steps_and_damaged_checkpoints(
    client, settings, capsys
):
    longest, second = settings(4.0), settings(2.0)
    jobs.train(longest)
    first = records(client, longest)
    assert local(longest)[1] == [11, 12] and len(first) == 13
    client.drop_database(longest.dbname)
    for name in os.listdir(local(longest)[0]):  # the clock was set back
        os.utime(os.path.join(local(longest)[0], name), (4e9, 4e9))
    jobs.train(second)
    found = records(client, second)
    assert [(record['step'], record['saved_filters']) for record in found] == [
        (step, True) for step in range(7)
    ]
    folder, steps = local(second)
    assert {5, 6} <= set(steps) and not [name for name in os.listdir(folder) if '.tar' in name]

    client[second.dbname][COLLNAME].chunks.delete_many({'files_id': found[6]['_id']})
    flip_a_bit(client, second, found[5])
    with pytest.raises(CheckpointError, match='checkpoint-5: this checkpoint is damaged '):
        finding.fetch_from(places.of(second), folder, step=5)
    capsys.readouterr()
    jobs.train(settings(3.0, do_restore=True))
    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if line.startswith('warning')]
    assert [
        re.match(r'warning: the checkpoint of step (\d) is skipped: ', line).group(1)
        for line in warnings
    ] == ['6', '5']
    assert f'restored from {folder}/restored/checkpoint-4' in lines and local(second)[1] == [8, 9]
    found = records(client, second)
    assert [(record['step'], record['saved_filters']) for record in found] == [
        (step, True) for step in range(10)
    ]
    assert [record.get('train_results') for record in found] == [
        record.get('train_results') for record in first[:10]
    ]


def test_a_copy_that_fails_costs_the_copy_alone(client, settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    bucket, config = tmp_path / 'bucket', settings(1.0, cache_dir=f'file://{tmp_path}/bucket')
    bucket.write_text('a file is no folder')
    with pytest.raises(TrainingError) as error:
        jobs.train(config)
    place = places.copies_folder(config, places.of(config))
    assert re.match(
        rf'{re.escape(place)} has no copy of the checkpoint of step 2, 3 \(.+\); everything '
        r'else is stored. Run the same command with --do_restore to copy it$',
        str(error.value),
    )
    out = capsys.readouterr().out
    assert [line.split(' (')[0] for line in out.splitlines() if line.startswith('warning')] == [
        f'warning: {place} has no copy of the checkpoint of step 0'
    ]
    found = records(client, config)
    assert [(record['step'], record['saved_filters']) for record in found] == [
        (0, True),
        (1, True),
        (2, True),
        (3, True),
    ]
    folder, steps = local(config)
    assert (
        steps == [2, 3]
        and folder.startswith(str(tmp_path / 'home'))
        and 'validation_results' in found[-1]
    )
    assert out.splitlines()[-1] == 'checkpoints: in the same records, and in ' + folder
    bucket.unlink()
    jobs.train(settings(1.0, cache_dir=config.cache_dir, do_restore=True))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == 'checkpoints: in the same records, and in ' + place
    assert checkpoints.step_of(place + '/checkpoint-3') == 3 and records(client, config) == found
    assert (
        restoring.description(place + '/checkpoint-3', 3)
        == restoring.description(folder + '/checkpoint-3', 3)
        != {}
    )


def test_a_name_is_no_pattern(client, settings, tmp_path, capsys):
    more = dict(
        exp_id_suffix='[lr=0,1]', cache_dir=str(tmp_path / '[c]' / 'd\\e*'), tensorboard=True
    )
    jobs.train(settings(1.0, **more))
    config = settings(2.0, do_restore=True, **more)
    jobs.train(config)
    folder, steps = local(config)
    lines = capsys.readouterr().out.splitlines()
    assert f'restored from {folder}/restored/checkpoint-3' in lines and steps == [5, 6]
    assert not [line for line in lines if line.startswith('warning')]
    assert [name for name in os.listdir(os.path.join(folder, 'tensorboard')) if 'tfevents' in name]
    assert [record['step'] for record in records(client, config)] == list(range(7))
    jobs.validate(
        settings(2.0, load_checkpoint=folder + '/checkpoint-6', val_exp_id='validated', **more)
    )
    (record,) = records(client, config, 'validated')
    assert (
        record['validation_results']['topn_val']
        == records(client, config)[-1]['validation_results']['topn_val']
    )


def test_a_checkpoint_that_was_lost_is_neither_validated_nor_continued(client, settings, tmp_path):
    exp = tiny.trainer(learning_rate=0.1)
    with tiny.session(
        exp, {'dense0/bias': np.full([5], np.nan), 'global_step': np.int64(1)}
    ) as session:
        prefix = checkpoints.save(session, exp, str(tmp_path), 1)
    words = f'{re.escape(prefix)}: NaN or infinite numbers in dense0/bias;'
    for job, more in (
        (jobs.validate, dict(val_exp_id='lost')),
        (jobs.train, {}),
        (jobs.train, dict(do_restore=True)),
    ):
        config = settings(1.0, load_checkpoint=prefix, **more)
        with pytest.raises(CheckpointError, match=words):
            job(config)
        assert records(client, config, more.get('val_exp_id')) == []


def test_a_bucket_that_cannot_be_is_refused_before_anything_else(settings, monkeypatch, capsys):
    monkeypatch.setattr(
        jobs.server, 'ensure', lambda *place: pytest.fail('a server was looked for')
    )
    for more in ({}, dict(dry_run=True)):
        with pytest.raises(
            jobs.ConfigError, match=r'--cache_dir=foo://bucket/x: TensorFlow .* has no file system'
        ):
            jobs.train(settings(1.0, cache_dir='foo://bucket/x', **more))
    assert capsys.readouterr().out == ''
