"""Sweeps: every run is trained, none twice, whatever is stopped, killed or lost in between.

The trainings are those of pretend.py, but in the tests of the night.
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pymongo
import pytest

import pretend
from config.rows import ConfigError
from database.claim import Claim
from experiments import grid, lines, sweep, trained, verify
from training.errors import Stopped

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.dirname(os.path.abspath(__file__))
RUNTIME = 'TensorFlow 0'
RULES, SEEDS = ('symmetric', 'mirror'), (1, 2, 3)
VALUES = {'recipe': ['fc_small'], 'alignment': list(RULES), 'seed': list(SEEDS)}


@pytest.fixture
def database(mongo_server, request):
    """An empty database for this test."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        name = 'sweep_' + request.node.name.partition('[')[0][-30:]
        client.drop_database(name)
        yield client[name]
        client.drop_database(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Looks at the trainings, which have ended when they start, without a pause."""
    monkeypatch.setattr(sweep, 'POLL_S', 0.001)
    monkeypatch.setattr(trained, 'commit', lambda: 'c' * 12)


@pytest.fixture
def where(mongo_server, database, tmp_path):
    """Where the trainings of this test are."""
    return sweep.Where(
        *('localhost', mongo_server.port, database.name, str(tmp_path / 'cache')),
        workers=2,
        threads=1,
        runtime=RUNTIME,
        csv=str(tmp_path / 'x.csv'),
    )


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A function that returns the exp_ids of all pretended trainings so far."""
    path = tmp_path / 'trained'
    path.write_text('')
    monkeypatch.setenv(pretend.TRAINED, str(path))
    return lambda: path.read_text().split()


def work(where, values=VALUES, launch=pretend.Pretended, said=None, name='grid'):
    said = [] if said is None else said
    return sweep.Sweep(name, grid.Grid(name, values).runs([]), where, said.append, launch)


def read(where):
    """Returns {(alignment, seed): line}; each may be there only once."""
    found = lines.File(where.csv).read()
    named = {(line.factors.get('alignment'), line.seed): line for line in found}
    assert len(named) == len(found)
    return named


def test_all_runs_are_trained_once_with_their_results(where, database, log):
    said = []
    work(where, said=said).run()
    assert len(log()) == len(set(log())) == 6
    found = read(where)
    assert set(found) == {(rule, seed) for rule in RULES for seed in SEEDS}
    for (rule, seed), line in found.items():
        measured, source = line.measured, line.source
        assert measured.top1 == pretend.top1(rule, seed, 0.05)
        assert (measured.best_top1, measured.best_step) == (measured.top1 + 0.015625, 40)
        assert (measured.step, measured.weight_angle, measured.projection_angle) == (80, 40.0, 10.0)
        assert measured.gradient_angle is None and measured.seconds == 80 * 0.5
        record = database['fc_32-16.files'].find_one(
            {'exp_id': source.exp_id}, sort=[('step', pymongo.DESCENDING)]
        )
        assert source.record == str(record['_id'])
        assert record['params']['digests']['settings'] == source.digest
        assert (source.threads, source.cpu) == (1, trained.cpu())
        assert json.loads(source.settings)['alignment'] == rule
    assert [text.partition(':')[0] for text in said] == [f'{i} of 6' for i in range(1, 7)]
    assert 'left' in said[0] and 'left' not in said[-1]
    work(where).run()
    assert len(log()) == 6 and database['experiments.claims'].count_documents({}) == 0


def test_threads_reach_the_training(where):
    started = []

    def launch(*words, **others):
        started.append(pretend.Pretended(*words, **others))
        return started[-1]

    work(where._replace(threads=3), dict(VALUES, seed=[1]), launch).run()
    assert [each.threads for each in started] == ['3', '3']


def test_lines_survive_the_database(where, database, log):
    work(where, dict(VALUES, seed=[1, 2])).run()
    database.client.drop_database(database.name)
    work(where).run()
    assert len(log()) == len(set(log())) == 6 and len(read(where)) == 6


def test_the_database_gives_the_lines_of_another_machine(where, log, tmp_path):
    work(where).run()
    there = where._replace(csv=str(tmp_path / 'there.csv'))
    before = read(where)
    work(there).run()
    assert read(there) == before and len(log()) == 6


def test_a_training_that_outlived_its_program_is_read_from_its_records(where, database, log):
    work(where, dict(VALUES, seed=[1])).run()
    before = read(where)
    os.remove(where.csv)
    database[trained.NOTES].update_many({}, {'$unset': {'line': 1}, '$set': {'threads': 7}})
    work(where, dict(VALUES, seed=[1])).run()
    assert len(log()) == 2
    for key, line in read(where).items():
        assert line.source == before[key].source._replace(threads=7)
        assert line.measured == before[key].measured._replace(process_seconds=None)


def test_a_processor_that_nobody_noted_is_that_of_the_records(where, database, log):
    work(where, dict(VALUES, seed=[1])).run()
    os.remove(where.csv)
    database[trained.NOTES].update_many({}, {'$unset': {'line': 1, 'cpu': 1}})
    work(where, dict(VALUES, seed=[1])).run()
    assert len(log()) == 2
    assert {line.source.cpu for line in read(where).values()} == {'another processor'}


class Refused(pretend.Pretended):
    """A training that refuses its experiment, as train.py does if only a part of it is there."""

    def run(self, command, output):
        output('error: Only a part of it is there.\n')
        return pretend.FAILED


@pytest.mark.parametrize('is_noted', [True, False])
def test_a_part_of_a_run_is_no_result(where, database, log, is_noted):
    work(where).run()
    os.remove(where.csv)
    if not is_noted:
        database[trained.NOTES].drop()
    run = grid.Grid('grid', VALUES).runs([])[0]
    half = {'_id': sweep.placed(run, 'grid', where).exp_id, 'doing': 'import'}
    database['fc_32-16.unfinished'].insert_one(half)
    each = work(where, launch=Refused)
    each.run()
    assert set(each.failures) == {run.name} and 'Only a part' in each.failures[run.name]
    assert len(read(where)) == 5
    database['fc_32-16.unfinished'].delete_one({})
    work(where, launch=Refused).run()
    assert len(read(where)) == 6 and len(log()) == 6


def test_best_of_a_history_with_a_gap_is_unknown(where, database):
    work(where, dict(VALUES, seed=[1])).run()
    os.remove(where.csv)
    database[trained.NOTES].drop()
    database['fc_32-16.files'].delete_many({'step': 40})
    work(where, dict(VALUES, seed=[1])).run()
    for line in read(where).values():
        assert line.measured.best_top1 is line.measured.best_step is None
        assert line.measured.top1 == pretend.top1(line.factors['alignment'], 1, 0.05)


def test_a_network_with_equal_logits_is_not_the_best(where, database):
    work(where, dict(VALUES, seed=[1])).run()
    os.remove(where.csv)
    database[trained.NOTES].drop()
    results = 'validation_results.topn_val.'
    database['fc_32-16.files'].update_many(
        {'step': 40}, {'$set': {results + 'top1': 1.0, results + 'ties': 1000}}
    )
    work(where, dict(VALUES, seed=[1])).run()
    assert {line.measured.best_step for line in read(where).values()} == {80}


def test_a_diverged_run_is_a_result(where, log):
    values = dict(VALUES, alignment=['mirror'], seed=[1], learning_rate=[0.05, 2.0])
    for _ in range(2):
        each = work(where, values)
        each.run()
        assert each.failures == {} and len(log()) == 2
    by_state = {line.state: line for line in lines.File(where.csv).read()}
    lost = by_state[lines.State.LOST]
    assert lost.factors == {'learning_rate': '2.0'} and lost.measured.step == 40
    assert lost.measured.top1 == pretend.top1('mirror', 1, 2.0, 40)


class Failing(pretend.Pretended):
    """A training that fails for seed 2."""

    def run(self, command, output):
        (path,) = [word for word in command if 'load_params_file' in word]
        if '_seed2_' in path:
            output('some lines\nerror: the disk is full\nmore\n')
            return pretend.FAILED
        return super().run(command, output)


def test_a_failed_run_is_told_and_trained_by_the_next_call(where, log):
    each = work(where, launch=Failing)
    each.run()
    assert set(each.failures) == {f'alignment={rule} seed=2' for rule in RULES}
    assert all('exit code 1, the disk is full' in told for told in each.failures.values())
    assert len(read(where)) == 4
    work(where).run()
    assert len(read(where)) == 6 and len(log()) == 6


class Silent(pretend.Pretended):
    """A training that ends without a record."""

    def run(self, command, output):
        return 0


def test_a_run_without_results_has_failed(where):
    each = work(where, launch=Silent)
    each.run()
    assert len(each.failures) == 6 and read(where) == {}
    assert 'its results are not in the database' in each.failures['alignment=mirror seed=1']


@pytest.mark.parametrize('claims', ['experiments.claims', 'fc_32-16.claims'])
def test_a_run_of_another_process_is_waited_for(where, database, log, claims, monkeypatch):
    runs = grid.Grid('grid', VALUES).runs([])
    config = sweep.placed(runs[0], 'grid', where)
    prefix = 'fc_32-16/' if claims == sweep.CHOSEN else ''
    other = Claim(database[claims], prefix + config.exp_id)
    monkeypatch.setattr(sweep, 'WAIT_S', 0.05)

    def say(text):
        said.append(text)
        if 'waiting' in text:  # then the other process ends its run
            record = pretend.record(config, pretend.STEPS)
            database['fc_32-16.files'].insert_one(record)
            other.release()

    said = []
    sweep.Sweep('grid', runs, where, say, pretend.Pretended).run()
    assert len(log()) == 5 and config.exp_id not in log() and len(read(where)) == 6
    assert 'waiting for runs of other processes: alignment=symmetric seed=1' in said


def test_records_with_other_settings_are_refused(where, database):
    work(where).run()
    os.remove(where.csv)
    database[trained.NOTES].drop()
    database['fc_32-16.files'].update_many({}, {'$set': {'params.digests.settings': '0' * 16}})
    with pytest.raises(ConfigError, match='with other settings; choose another --dbname'):
        work(where).run()


class Long(pretend.Pretended):
    """A training that runs until it is stopped."""

    stopped = 0

    def run(self, command, output):
        if 'seed1' in str(command) and 'symmetric' in str(command):
            os.kill(os.getpid(), signal.SIGTERM)
        return None

    def terminate(self):
        Long.stopped += 1
        self.returncode = 143

    def wait(self):
        assert self.returncode is not None
        return self.returncode


def test_a_signal_stops_the_trainings_and_the_same_command_continues(where, database, log):
    with pytest.raises(Stopped):
        work(where, launch=Long).run()
    assert Long.stopped == 2 and read(where) == {}
    assert database['experiments.claims'].count_documents({}) == 0
    work(where).run()
    assert len(read(where)) == len(log()) == 6


def test_results_that_do_not_come_again_are_found(where, log):
    work(where).run()
    runs, said = grid.Grid('grid', VALUES).runs([]), []
    assert len(verify.drawn(runs, lines.File(where.csv).read(), where, 3, 5)) == 3
    assert verify.drawn(runs, lines.File(where.csv).read(), where, 9, 5) != runs  # in random order
    assert verify.verify('grid', runs, where, 2, 5, said.append, pretend.Pretended)
    assert len(log()) == len(set(log())) == 8 and len(read(where)) == 6
    text = open(where.csv).read()
    wrong = repr(pretend.top1('mirror', 1, 0.05))
    with open(where.csv, 'w') as file:
        file.write(text.replace(wrong, '0.5078125'))
    assert not verify.verify('grid', runs, where, 6, 5, said.append, pretend.Pretended)
    assert f'alignment=mirror seed=1: top-1 {wrong} instead of 0.5078125' in said


def test_on_another_cpu_three_standard_deviations_are_allowed():
    from test_lines import line

    before = line(1)
    values = np.array([before.measured.top1, 0.3, 0.35])
    spread = dict.fromkeys(verify.COMPARED, values.std(ddof=1))

    def at(top1, **source):
        measured = before.measured._replace(top1=top1)
        return before._replace(measured=measured, source=before.source._replace(**source))

    near, far = [values[0] + factor * values.std(ddof=1) for factor in (2.9, 3.1)]
    for source in (dict(cpu='other'), dict(threads=9)):
        assert verify.difference(before, at(near, **source), spread) == ''
        assert 'top-1' in verify.difference(before, at(far, **source), spread)
    assert verify.difference(before, before, spread) == ''
    assert 'top-1' in verify.difference(before, at(np.nextafter(values[0], 1)), spread)
    alone = dict.fromkeys(verify.COMPARED, float('nan'))
    assert 'top-1' in verify.difference(before, at(near, cpu='other'), alone)
    lost = before._replace(state=lines.State.LOST)
    assert verify.difference(before, lost, spread) == 'lost instead of finished'


@pytest.mark.slow
def test_two_workers_one_killed_and_the_database_dropped(where, database, forks, log, monkeypatch):
    """Both workers are processes, and so are their trainings: that of the killed one goes on."""
    monkeypatch.setenv(pretend.SECONDS, '0.2')
    variables = {name: os.environ[name] for name in (pretend.TRAINED, pretend.SECONDS)}
    words = [str(where.port), where.dbname, where.csv, where.cache_dir, '1', '2']
    one, other = [
        forks.start(os.path.join(FOLDER, 'worker.py'), *words, **variables) for _ in range(2)
    ]
    deadline = time.monotonic() + 60
    while not read(where) and time.monotonic() < deadline:
        time.sleep(0.02)
    one.kill()
    out, err = other.communicate()
    assert other.returncode == 0, err
    one.communicate()
    assert len(read(where)) == len(log()) == len(set(log())) == 4
    database.client.drop_database(database.name)
    monkeypatch.delenv(pretend.SECONDS)
    work(where).run()
    assert len(read(where)) == len(log()) == len(set(log())) == 6
    for (rule, seed), line in read(where).items():
        assert line.measured.top1 == pretend.top1(rule, seed, 0.05)


@pytest.mark.nightly
def test_the_program_with_real_trainings(mongo_server, database, tmp_path):
    """As above, with train.py: the results are those of the records."""
    csv = tmp_path / 'x.csv'
    words = [sys.executable, '-m', 'experiments.grid', '--recipe=fc_small', '--train_epochs=1']
    words += ['--alignment=symmetric,mirror', '--seed=1,2,3', '--threads=1', f'--csv={csv}']
    words += [f'--port={mongo_server.port}', f'--dbname={database.name}']
    words += [f'--cache_dir={tmp_path}']
    one, other = [subprocess.Popen(words, cwd=ROOT) for _ in range(2)]
    deadline = time.monotonic() + 300
    while len(lines.File(str(csv)).read()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    one.kill()
    one.wait()
    database.client.drop_database(database.name)
    assert other.wait() == 0
    found = lines.File(str(csv)).read()
    assert {(line.factors['alignment'], line.seed) for line in found} == {
        (rule, seed) for rule in RULES for seed in SEEDS
    } and len(found) == 6
    for line in found:
        record = database['fc_32-16.files'].find_one({'exp_id': line.source.exp_id, 'step': 80})
        if record:  # it was trained after the database was dropped
            assert record['validation_results']['topn_val']['top1'] == line.measured.top1
    assert subprocess.call(words + ['--verify=2'], cwd=ROOT) == 0


def test_a_program_prints_and_writes(where, database, tmp_path, capsys, monkeypatch):
    training = trained.Training
    monkeypatch.setattr(
        sweep, 'Training', lambda *arguments: training(*arguments[:3], pretend.Pretended)
    )
    words = ['--recipe=fc_small', '--alignment=mirror,symmetric', '--seed=1,2', '--workers=2']
    words += [f'--csv={where.csv}', f'--port={where.port}', f'--dbname={database.name}']
    words += [f'--cache_dir={tmp_path}', f'--figure={tmp_path / "a.svg"},{tmp_path / "b.pdf"}']
    assert grid.main(words) == 0
    out = capsys.readouterr().out
    values = [pretend.top1('mirror', seed, 0.05) for seed in (1, 2)]
    assert f'| {np.mean(values):.4f} | {np.std(values, ddof=1):.4f} |' in out
    assert (tmp_path / 'a.svg').read_bytes().startswith(b'<?xml')
    assert (tmp_path / 'b.pdf').read_bytes().startswith(b'%PDF')
    groups = json.loads((tmp_path / 'x.json').read_text())['groups']
    assert [group['metrics']['top1']['values'] for group in groups][0] == {
        '1': values[0],
        '2': values[1],
    }
