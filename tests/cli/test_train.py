"""train.py from the command line to MongoDB: a run, the same run again, and a resumed run.

The commands run in this process unless a signal ends them.
"""

import os
import re
import signal
import time

import commands
import numpy as np
import pymongo
import pytest
from database import layout
from tensorboard.backend.event_processing.event_accumulator import SCALARS as ALL_SCALARS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.slow

LAYERS = {'dense0', 'dense1', 'dense_output'}
STEPS = [0, 6, 12, 15]  # records of the first run, each with a validation
RESUMED = [18, 24, 30]
SCALARS = {
    'loss',
    'model_loss',
    'reg_loss',
    'alignment_loss',
    'total_loss',
    'learning_rate',
    'alignment_learning_rate',
    'learning_rate_0',
    'learning_rate_1',
}
BY_LAYER = {
    'weight_angles',
    'projection_angles',
    'gradient_angles',
    'hebb_angle',
    'weightsq_norm',
    'weightsq_mean',
    'actsq_norm',
    'actsq_mean',
    'norm_ratios',
    'gradient_norm_ratios',
    'gradient_cosines',
    'gradient_sign_agreements',
    'backprop_gradient_sizes',
    'activity_norms',
    'error_ranks',
}


def validations(lines):
    """Returns {step: top-1 as printed} from the lines of a run."""
    found = [
        re.match(
            r'step ([\d,]+) of [\d,]+: top-1 ([\d.]+), top-5 [\d.]+, mean weight angle [\d.]+ '
            r'degrees, '
            r'mean gradient angle [\d.]+ degrees$',
            line,
        )
        for line in lines
    ]
    return {int(match.group(1)): match.group(2) for match in found if match}


def restored_from(lines):
    """Returns the names of the checkpoints that a run started from, according to its lines."""
    return [os.path.basename(line) for line in lines if line.startswith('restored from ')]


def recorded(found, steps=None):
    """Returns {step: results of its validation} from an experiment's records.

    Without `steps`, all records are used.
    """
    return {
        record['step']: record['validation_results']['topn_val']
        for record in found
        if steps is None or record['step'] in steps
    }


def test_a_run_says_what_it_does(trained, mongo_server, folder):
    port = mongo_server.port
    lines = commands.succeeded(trained.first)
    assert re.match(rf'MongoDB \d+\.\d+\.\d+ at localhost:{port}\.$', lines[0])
    assert lines[1] == 'settings written to ' + trained.settings
    assert (
        '  layers_list              (7, 5)' in lines and '  alpha                    0.02' in lines
    )
    assert (
        'fc_7-5 with symmetric on mnist: 4,000 training and 1,000 test images of 28x28x1, '
        '10 classes' in lines
    )
    assert '15 steps of 131 images (0.5 epochs of 30 steps)' in lines
    assert 'starting from new variables' in lines
    assert re.search(
        r'^\d+ variables: \d+ trainable, 0 restored, \d+ new ', trained.first.out, re.M
    )
    assert list(validations(lines)) == STEPS
    assert lines[-2].startswith(
        'results: database cli, collection fc_7-5.files, exp_id symmetric_split at '
        f'localhost:{port}; '
        f'top-1 {validations(lines)[15]}, '
    )
    assert lines[-1] == 'checkpoints: in the same records, and in ' + folder('symmetric_split')


@pytest.mark.parametrize(
    'flags, gradients, steps',
    [
        ([], 'closed form', ''),
        (
            ['--update_forward'],
            'automatic differentiation in 3 layers; these options have no closed form',
            '',
        ),
        (
            ['--iterations_per_loop=9', '--xla'],
            'closed form',
            ', up to 9 steps a call, compiled by XLA',
        ),
    ],
)
def test_a_dry_run_tells_and_does_nothing(run, where, records, folder, flags, gradients, steps):
    lines = commands.succeeded(
        run('train.py', '--dry_run', *(commands.FC + where + ['--exp_id_suffix=_dry'] + flags))
    )
    assert 'gradients of the symmetric loss: ' + gradients in lines
    assert '2,700 steps of 131 images (90 epochs of 30 steps)' + steps in lines
    million = f'{131 * (3 * (784 * 7 + 7 * 5 + 5 * 10) - 784 * 7) / 1e6:.1f}'
    assert f'a step: {million} million multiply-adds, {million} in matrix products' in lines
    assert re.search(
        r'^  dense0/backward_kernel +7x784 +backward kernel +new$', '\n'.join(lines), re.M
    )
    (digest,) = re.findall(r'^images: digest ([0-9a-f]{64}), of all images', '\n'.join(lines), re.M)
    assert len(digest) == 64
    assert re.search(
        r'^time of a step: [\d.,]+ ms, [\d,]+ images/s \(mean of 10 steps\)$',
        '\n'.join(lines),
        re.M,
    )
    assert records('symmetric_dry') == [] and not os.path.exists(folder('symmetric_dry'))


def test_a_dry_run_tells_what_a_training_keeps(run, trained, where, records, mongo_server):
    claims = pymongo.MongoClient(mongo_server.host, mongo_server.port)['cli']['fc_7-5.claims']
    before = list(claims.find())
    lines = commands.succeeded(
        run('train.py', '--dry_run', *(commands.FC + where + ['--train_epochs=0.5']))
    )
    assert list(claims.find()) == before
    (told,) = [line for line in lines if line.startswith('a checkpoint: ')]
    stored = [record for record in records('symmetric_split') if record['step'] <= 15]
    count = sum(record['saved_filters'] for record in stored)
    found = re.match(
        r'a checkpoint: ([\d.]+) kB; kept: (\d) in the cache folder \(([\d.]+) kB\), (\d) in the '
        r'database \(([\d.]+) kB\)$',
        told,
    )
    each, local, of_local, lasting, of_lasting = map(float, found.groups())
    assert local == lasting == count == 4
    assert of_local == of_lasting == pytest.approx(4 * each, abs=0.3)
    # An archive also holds the index of the variables, and tar fills it up to 10 kB.
    lengths = {record['length'] / 1000 for record in stored}
    assert all(each < length < each + 22 for length in lengths) and len(lengths) > 0


def test_a_record_holds_its_environment(trained, records):
    """The command in full, the images, and time and memory that grow from record to record."""
    first, second = [
        [record['params']['environment'] for record in records('symmetric_split') if test(record)]
        for test in (lambda r: r['step'] <= 15, lambda r: r['step'] > 15)
    ]
    for run, changing in ((first, '--train_epochs=0.5'), (second, '--do_restore')):
        for name in ('seconds', 'peak_memory'):
            values = [found[name] for found in run]
            assert values == sorted(values) and values[0] > 0
        assert len({found['started'] for found in run}) == 1
        assert run[0]['argv'][0] == 'train.py' and changing in run[0]['argv']
        assert set(commands.FC) < set(run[0]['argv'])
        assert run[0]['dataset']['train_images'] == 4000
        assert run[0]['dataset']['digest_of'] == 'all images and labels'
    assert first[0]['started'] < second[0]['started']
    assert all(record['layout'] == layout.VERSION for record in records('symmetric_split'))


def test_a_batch_split_over_devices_trains_alike(run, where, records):
    losses = []
    for suffix, flags in (('_one', []), ('_three', ['--cpu_devices=4', '--gpu=2,0,3'])):
        lines = commands.succeeded(
            run(
                'train.py',
                *(
                    commands.FC
                    + where
                    + flags
                    + ['--exp_id_suffix=' + suffix, '--train_batch_size=129', '--train_epochs=0.1']
                ),
            )
        )
        losses.append(
            [
                step['loss']
                for record in records('symmetric' + suffix)
                for step in record.get('train_results', [])
            ]
        )
    assert 'a batch: 129 images, 43 on each of 3 replicas, 1 host' in lines
    assert (
        len(losses[0]) == 3
        and losses[1] == pytest.approx(losses[0], rel=1e-4)
        and losses[1] != losses[0]
    )


def test_tensorboard_shows_what_is_recorded(run, where, records, folder):
    commands.succeeded(
        run(
            'train.py',
            *(
                commands.FC
                + where
                + ['--exp_id_suffix=_board', '--train_epochs=0.1', '--tensorboard']
            ),
        )
    )
    shown = EventAccumulator(
        os.path.join(folder('symmetric_board'), 'tensorboard'), size_guidance={ALL_SCALARS: 0}
    )
    shown.Reload()
    found = records('symmetric_board')
    steps = [step for record in found for step in record.get('train_results', [])]
    assert len(steps) == 3
    for name in SCALARS:
        assert [(event.step, event.value) for event in shown.Scalars('train/' + name)] == [
            (number, pytest.approx(step[name], rel=1e-6)) for number, step in enumerate(steps, 1)
        ]
    for record in (found[0], found[-1]):
        results = record['validation_results']['topn_val']
        for tag, value in (
            ('top1', results['top1']),
            ('weight_angles/dense0', results['weight_angles']['dense0']),
            ('alignment_coefficients/alpha', results['alignment_coefficients']['alpha']),
        ):
            assert (record['step'], pytest.approx(value, rel=1e-6)) in [
                (event.step, event.value) for event in shown.Scalars('topn_val/' + tag)
            ]
    assert shown.Tags()['histograms'] == [
        f'topn_val/{name}_angles/all' for name in ('gradient', 'projection', 'weight')
    ]


def test_the_records(trained, records):
    found = records('symmetric_split')
    assert [record['step'] for record in found] == STEPS + RESUMED
    for record, before in zip(found, [0] + STEPS + RESUMED):
        assert (
            record['saved_filters'] is True and 'filename' in record
        )  # at step 0 as well, as in the original
        assert len(record.get('train_results', [])) == record['step'] - before
        for step in record.get('train_results', []):
            assert set(step) == SCALARS
            assert (
                step['learning_rate_0'] == step['learning_rate'] == np.float32(0.1)
            )  # the original only has these two names
            assert step['learning_rate_1'] == step['alignment_learning_rate'] == np.float32(0.01)
        results = record['validation_results']['topn_val']
        is_last = record['step'] in (STEPS[-1], RESUMED[-1])  # of its run
        details = set(layout.DETAILS) if is_last else set()
        assert set(results) == BY_LAYER | details | {
            'top1',
            'top5',
            'loss',
            'images',
            'global_step',
            'ties',
            'measured_images',
            'undefined_angles',
        }
        assert results['images'] == 1000 and results['global_step'] == record['step']
        assert (results['ties'], results['undefined_angles'], results['measured_images']) == (
            0,
            0,
            64,
        )
        assert record['params']['validation_params']['measure_images'] == 64
        assert all(set(results[name]) == LAYERS for name in BY_LAYER)
        for each in results.get('per_class', []):
            assert each['images'] == 100 and each['name'] == str(each['label'])
        confusion = results.get('confusion', {}).get('matrix')
        assert not is_last or np.trace(confusion) == round(1000 * results['top1'])
        assert len(results.get('mistakes', [])) == (16 if is_last else 0)
    first, last = (
        found[0]['validation_results']['topn_val'],
        found[-1]['validation_results']['topn_val'],
    )
    assert (
        last['top1'] > first['top1'] + 0.2
        and last['weight_angles']['dense0'] < first['weight_angles']['dense0'] - 5
    )


@pytest.mark.claim('records')
def test_every_record_has_the_layout_of_tfutils(trained, whole, records, record_property):
    found = records('symmetric_split') + records('symmetric_whole')
    record_property('references', len(found))
    assert [faults for record in found for faults in [layout.faults(record)] if faults] == []


def test_what_is_printed_is_what_is_recorded(trained, records):
    printed = validations(trained.first.out.splitlines() + trained.resumed.out.splitlines())
    found = recorded(records('symmetric_split'))
    assert printed == {step: '{:.4f}'.format(results['top1']) for step, results in found.items()}


def test_a_record_holds_every_setting(trained, records, mongo_server):
    params = records('symmetric_split')[3]['params']
    assert set(params) == {
        'save_params',
        'load_params',
        'model_params',
        'train_params',
        'loss_params',
        'learning_rate_params',
        'optimizer_params',
        'validation_params',
        'provenance',
        'environment',
        'digests',
    }
    assert (params['model_params']['seed'], params['model_params']['cfg_final']) == (
        0,
        {},
    )  # the original's test.py reads these
    assert (
        params['save_params']['port'] == mongo_server.port
        and params['save_params']['exp_id'] == 'symmetric_split'
    )
    assert (
        params['model_params']['layers_list'] == [7, 5] and params['model_params']['alpha'] == 0.02
    )
    assert params['train_params']['num_steps'] == 15 and params['train_params']['data_params'] == {
        'batch_size': 131
    }
    assert params['optimizer_params']['alignment_optimizer'] == 'adam'
    assert params['validation_params']['topn_val']['num_steps'] == 4
    assert params['validation_params']['topn_val']['validation_images'] == 1000


def test_the_newest_checkpoints_lie_here_too(trained, folder):
    files = set(os.listdir(folder('symmetric_split'))) - {
        'restored',
        'settings.json',
        'claim.json',
    }  # 'restored' holds downloads from MongoDB; claim.json tells whose checkpoints these are
    assert files == {
        f'checkpoint-{step}.{ending}'
        for step in (12, 15, 18, 24, 30)
        for ending in ('index', 'data-00000-of-00001')
    }


def test_the_same_command_again_is_refused_and_harms_nothing(trained):
    words = commands.refusal(trained.again, 2)
    assert (
        'exp_id symmetric_split has records up to step 15 in cli.fc_7-5' in words
        and '--do_restore' in words
    )


def test_a_run_goes_on_after_its_last_step(trained):
    lines = commands.succeeded(trained.resumed)
    assert restored_from(lines) == ['checkpoint-15']
    assert not re.search(' new$', trained.resumed.out, re.M)
    assert 'starting from new variables' not in lines
    assert list(validations(lines)) == RESUMED


def test_a_resumed_run_ends_as_one_that_never_stopped(trained, whole, records, folder):
    commands.succeeded(whole)
    names = ('symmetric_split', 'symmetric_whole')
    assert commands.differing(*[folder(name) + '/checkpoint-30' for name in names]) == set()
    split, whole = [recorded(records(name), RESUMED) for name in names]
    assert split == whole and list(whole) == RESUMED
    split, whole = [
        [step for record in records(name)[1:] for step in record['train_results']] for name in names
    ]
    assert split == whole and len(whole) == 30


@pytest.mark.claim('restoring')
def test_another_experiment_starts_from_a_checkpoint(
    trained, run, where, mongo_server, folder, records
):
    """The learning rate is 0, so the new experiment stores the variables that it started from."""
    done = run(
        'train.py',
        *(
            commands.FC
            + where
            + [
                '--dbname=other',
                '--exp_id_suffix=_off',
                '--train_epochs=0.5',
                '--learning_rate=0',
                '--alignment_learning_rate=0',
                '--load_db',
                '--load_exp_id=symmetric_split',
                '--load_step=12',
                '--load_dbname=cli',
                '--load_collname=fc_7-5',
                f'--load_port={mongo_server.port}',
            ]
        ),
    )
    assert restored_from(commands.succeeded(done)) == ['checkpoint-12']
    assert [record['step'] for record in records('symmetric_off', 'other')] == [15]
    moved = commands.differing(
        folder('symmetric_split') + '/checkpoint-12',
        folder('symmetric_off', 'other') + '/checkpoint-15',
    )
    assert {
        name for name in moved if name.endswith(('kernel', 'bias'))
    } == set() and 'global_step' in moved
    assert [record['step'] for record in records('symmetric_split')] == STEPS + RESUMED


@pytest.mark.parametrize(
    'number, name, code', [(signal.SIGINT, 'SIGINT', 130), (signal.SIGTERM, 'SIGTERM', 143)]
)
def test_a_signal_saves_and_stops(run, forks, where, records, folder, ending, number, name, code):
    words = ['train.py'] + commands.FC + where + ['--exp_id_suffix=_' + name, '--train_epochs=50']
    running = forks.start(*words)
    for line in iter(running.stdout.readline, ''):
        if line.startswith('step 12 of 1,500'):
            second = run(*(words + ['--do_restore']))
            running.send_signal(number)
            break
    refusal = commands.refusal(second, 1)
    assert f'Process {running.pid} on host ' in refusal
    assert f' has been training exp_id symmetric_{name} since ' in refusal
    done = commands.end(running)
    assert done.code == code
    assert commands.unexpected(done.err) == [f'stopped by {name}; --do_restore resumes it']
    assert f'{name}: saving, then stopping; a second signal stops at once' in done.out.splitlines()
    assert ending('symmetric_' + name) == {'signal': name, 'message': name}
    found = records('symmetric_' + name)
    assert [record['step'] for record in found][:2] == [0, 6] and found[1]['saved_filters']
    reached = found[-1]['step']
    assert sum(len(record.get('train_results', [])) for record in found) == reached >= 12
    assert os.path.exists(folder('symmetric_' + name) + f'/checkpoint-{reached}.index')
    epochs = (reached // 6 * 6 + 6) / 30
    lines = commands.succeeded(run(*(words[:-1] + [f'--train_epochs={epochs}', '--do_restore'])))
    assert restored_from(lines) == [f'checkpoint-{reached}']
    assert ending('symmetric_' + name) is None
    assert [
        len(record['train_results'])
        for record in records('symmetric_' + name)
        if record['step'] > reached
    ] == [reached // 6 * 6 + 6 - reached]


def test_a_run_that_was_killed_goes_on_with_every_step_recorded_once(
    run, forks, where, records, folder
):
    """The run is killed after a record without a checkpoint, at step 100.

    The steps after its newest checkpoint, of step 90, are computed and recorded again.
    """
    words = (
        ['train.py']
        + commands.FC
        + where
        + ['--epochs_per_checkpoint=3', '--learning_rate=0.01', '--novalidate_first']
    )
    running = forks.start(*(words + ['--exp_id_suffix=_killed', '--train_epochs=50']))
    while not any(record['step'] == 100 for record in records('symmetric_killed')):
        assert running.poll() is None
        time.sleep(0.02)
    running.kill()
    commands.end(running)
    before = [record['step'] for record in records('symmetric_killed')]
    assert before[:2] == [90, 100]
    steps = before[-1] // 90 * 90 + 90
    for suffix in ('_killed', '_unkilled'):
        lines = commands.succeeded(
            run(
                *(
                    words
                    + ['--exp_id_suffix=' + suffix, f'--train_epochs={steps / 30}', '--do_restore']
                )
            )
        )
    assert restored_from(lines) == []
    killed, whole = [
        [
            (record['step'], record.get('train_results'), record.get('validation_results'))
            for record in records('symmetric' + suffix)
        ]
        for suffix in ('_killed', '_unkilled')
    ]
    assert killed == whole and whole[-1][0] == steps
    assert (
        commands.differing(
            *[
                folder('symmetric' + suffix) + f'/checkpoint-{steps}'
                for suffix in ('_killed', '_unkilled')
            ]
        )
        == set()
    )


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(
    whole, run, where, mongo_server, records, folder
):
    words = ['train.py'] + commands.FC + where + ['--exp_id_suffix=_damaged', '--do_restore']
    commands.succeeded(run(*(words + ['--train_epochs=0.5'])))
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        newest = records('symmetric_damaged')[-1]
        assert newest['step'] == 15
        client['cli']['fc_7-5.chunks'].update_one(
            {'files_id': newest['_id'], 'n': 0}, {'$set': {'data': b'no checkpoint'}}
        )
    lines = commands.succeeded(run(*(words + ['--train_epochs=1'])))
    (warning,) = [line for line in lines if line.startswith('warning')]
    assert warning.startswith(
        'warning: the checkpoint of step 15 is skipped: Parts of the file checkpoint-15.tar of '
        'record '
    )
    assert restored_from(lines) == ['checkpoint-12']
    assert [record['step'] for record in records('symmetric_damaged')] == [0, 6, 12, 18, 24, 30]
    assert (
        commands.differing(
            *[folder(name) + '/checkpoint-30' for name in ('symmetric_damaged', 'symmetric_whole')]
        )
        == set()
    )


def test_a_run_that_is_complete_says_how_it_went_and_records_nothing_more(
    whole, run, where, records
):
    before = records('symmetric_whole')
    lines = commands.succeeded(
        run(
            'train.py',
            *(commands.FC + where + ['--exp_id_suffix=_whole', '--train_epochs=1', '--do_restore']),
        )
    )
    assert validations(lines)[30] == validations(whole.out.splitlines())[30]
    assert records('symmetric_whole') == before


def test_copies_of_the_checkpoints_go_to_a_file_system_of_tensorflows(
    whole, run, where, home, mongo_server, records, folder
):
    """file:// takes the place of gs://, which would need a bucket."""
    bucket = os.path.join(home, 'bucket')
    words = commands.FC + where + ['--exp_id_suffix=_copied', '--cache_dir=file://' + bucket]
    lines = commands.succeeded(run('train.py', '--train_epochs=1', '--checkpoint_max=2', *words))
    place = f'localhost:{mongo_server.port}/cli/fc_7-5/symmetric_copied'
    assert lines[-1] == f'checkpoints: in the same records, and in file://{bucket}/{place}'
    assert sorted(os.listdir(os.path.join(bucket, place))) == sorted(
        f'checkpoint-{step}.{ending}'
        for step in (24, 30)
        for ending in ('index', 'data-00000-of-00001')
    ) + ['settings.json']
    copy = os.path.join(bucket, place, 'checkpoint-30')
    assert commands.differing(copy, folder('symmetric_whole') + '/checkpoint-30') == set()
    commands.succeeded(
        run(
            'test.py', 'validate', '--val_exp_id=copied', '--load_checkpoint=file://' + copy, *words
        )
    )
    assert records('copied')[0]['validates'] == 'file://' + copy
