"""The search: valid spaces; a study is resumed, is shared by workers, and stops hopeless trials."""

import functools
import os
import shlex
import signal
import subprocess
import sys

import pymongo
import pytest

import idx_files
import runs
from config.flags import as_flag
from config.schema import Config, ConfigError
from data import DataError, mnist
from database import claim
from training import jobs, places, search
from training.choices import choices
from training.errors import TrainingError

DBNAME = 'searches'
SETTINGS = dict(
    model='fc',
    layers_list=(7, 5),
    activation='tanh',
    alignment='symmetric',
    train_batch_size=131,
    eval_batch_size=307,
    optimizer='momentum',
    train_epochs=0.5,
    epochs_per_checkpoint=0.25,
    dbname=DBNAME,
)
SPACE = ('learning_rate=0.01:1:log', 'alpha=0.001:0.1')


digits = functools.lru_cache(maxsize=None)(mnist.read_subset)


class Forked:
    """A training in a forked process, with those parts of subprocess.Popen that a search uses."""

    def __init__(self, fork, output):
        self._fork, self._output = fork, output

    @property
    def returncode(self):
        """The exit code, as in subprocess.Popen."""
        return self._fork.returncode

    def poll(self):
        """Returns the exit code, or None while the process runs."""
        return self._fork.poll()

    def terminate(self):
        """Asks the process to stop."""
        self._fork.send_signal(signal.SIGTERM)

    def wait(self):
        """Waits until the process has ended and its output is in its file."""
        self._output.write(''.join(self._fork.communicate()))


@pytest.fixture
def worker(mongo_server, request, tmp_path, monkeypatch):
    """Returns a function: (study, trials, space, **settings) -> a Search whose trainings are forks.

    The data set is MNIST, without files or network.
    """
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    monkeypatch.delenv('TFUTILS_HOME', raising=False)
    monkeypatch.setattr(search, 'LOOK_S', 0.1)
    monkeypatch.setattr(mnist, 'read_subset', digits)

    def launch(command, stdout, stderr):
        assert (command[0], stderr) == (sys.executable, subprocess.STDOUT)
        return Forked(request.getfixturevalue('forks').start(*command[1:]), stdout)

    def make(study, trials, space=SPACE, prune=True, launch=launch, **settings):
        config = Config.of(
            dict(dict(SETTINGS, port=mongo_server.port, cache_dir=str(tmp_path)), **settings),
            choices(),
        )
        return search.Search(
            config, [search.dimension(text) for text in space], study, trials, prune, launch
        )

    return make


@pytest.fixture
def documents(mongo_server):
    """Returns a function: study -> its trials in MongoDB, by number."""
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        yield lambda study: list(
            client[DBNAME]['fc_7-5.searches'].find({'study': study}).sort('trial')
        )


@pytest.mark.parametrize(
    'text, expected',
    [
        ('learning_rate=0.001:1:log', ('learning_rate', 0.001, 1.0, True, None)),
        ('alpha=0:2', ('alpha', 0.0, 2.0, False, None)),
        ('train_batch_size=8:64:log', ('train_batch_size', 8, 64, True, None)),
        ('optimizer=gd,adam', ('optimizer', None, None, False, ('gd', 'adam'))),
        ('update_forward=true,false', ('update_forward', None, None, False, (True, False))),
        ('alpha=0.1,0.25', ('alpha', None, None, False, (0.1, 0.25))),
    ],
)
def test_a_dimension(text, expected):
    assert tuple(search.dimension(text)) == expected


@pytest.mark.parametrize(
    'text',
    [
        'learning_rat=0:1',
        'alpha',
        '=1:2',
        'alpha=',
        'alpha=2:1',
        'alpha=0:1:log',
        'alpha=a:b',
        'alpha=1:2:3',
        'train_batch_size=0.5:3',
        'layers_list=3:4',
        'port=1:2',
        'optimizer=a:b',
        'update_forward=yes,no',
        'alpha=0.1,x',
        'seed=1,1',
        'alpha=0.1,0.10',
    ],
)
def test_what_is_no_dimension_is_refused(text):
    with pytest.raises(ConfigError, match='^--space={}: '.format(text.replace('.', r'\.'))):
        search.dimension(text)


@pytest.mark.parametrize(
    'study, space, message',
    [
        ('a', (), 'name each setting'),
        ('a', SPACE[:1] * 2, 'name each setting'),
        ('a/b', SPACE, 'must consist of at most 100 letters'),
    ],
)
def test_a_search_that_cannot_be_is_refused(worker, study, space, message):
    with pytest.raises(ConfigError, match=message):
        worker(study, 1, space)


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_and_mongodb_holds_each_trial(
    worker, documents, mongo_server, forks, capfd
):
    worker('onward', 1).run()
    assert len(documents('onward')) == 1
    worker('onward', 2).run()
    worker('onward', 2).run()
    found = documents('onward')
    assert [each['_id'] for each in found] == [f'symmetric_onward_{i}' for i in range(2)]
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        for each in found:
            record = client[DBNAME]['fc_7-5.files'].find_one(
                {'exp_id': each['_id'], 'step': each['step']}
            )
            settings = dict(
                record['params']['model_params'], **record['params']['learning_rate_params']
            )
            assert each['params'] == {name: settings[name] for name in ('learning_rate', 'alpha')}
            assert each['value'] == record['validation_results']['topn_val']['top1']
            assert (
                0.01 <= each['params']['learning_rate'] <= 1
                and 0.001 <= each['params']['alpha'] <= 0.1
            )
            assert each['state'] in ('complete', 'pruned') and each['message'] is None
    assert len({each['params']['alpha'] for each in found}) == 2
    best = max(found, key=lambda each: each['value'])
    said = capfd.readouterr().out.splitlines()
    assert 'best is trial {}: top-1 {:.4f}'.format(best['trial'], best['value']) in said[-3]
    assert (
        said[-2].startswith('its settings: --')
        and '--alpha={}'.format(best['params']['alpha']) in said[-2]
    )
    assert said[-1].startswith('a training with these settings: python train.py ')
    command = shlex.split(said[-1].partition(': ')[2])
    done = forks.run(*command[1:])
    assert done.code == 0, done.err
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        again = client[DBNAME]['fc_7-5.files'].find_one(
            {'exp_id': 'symmetric_onward_best'}, sort=[('step', -1)]
        )
    assert again['validation_results']['topn_val']['top1'] == best['value']
    assert again['params']['digests'] == best['digests']


@pytest.mark.nightly
def test_a_study_goes_on_in_the_database_that_it_is_carried_to(
    worker, mongo_server, tmp_path, capfd
):
    worker('carried', 1).run()
    where = [f'--port={mongo_server.port}', f'--cache_dir={tmp_path}']
    out, there = str(tmp_path / 'out'), DBNAME + '_there'
    assert (
        runs.main(['export', 'symmetric_carried_0', '--to=' + out, '--dbname=' + DBNAME, *where])
        == 0
    )
    assert runs.main(['import', out, '--dbname=' + there, *where]) == 0
    worker('carried', 2, dbname=there).run()
    assert 'study carried: 2 trials, ' in capfd.readouterr().out
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        here, new = [
            list(client[name]['fc_7-5.searches'].find({'study': 'carried'}).sort('trial'))
            for name in (DBNAME, there)
        ]
        client.drop_database(there)
    assert len(here) == 1 and new[0] == here[0]
    assert new[1]['trial'] == 1 and new[1]['identity'] == here[0]['identity']


def test_a_study_of_another_search_is_refused(worker):
    worker('other', 1)
    worker('other', 5)
    for more in (
        dict(train_batch_size=132),
        dict(space=SPACE[:1]),
        dict(exp_id_suffix='_x'),
        dict(load_checkpoint='x'),
    ):
        with pytest.raises(ConfigError, match='the study other in .* choose another --study'):
            worker('other', 1, **more)


@pytest.mark.slow
def test_a_training_whose_numbers_are_lost_counts_as_nothing_learned(worker, documents, capfd):
    worker('lost', 1, ('learning_rate=1e30:1e37:log',)).run()
    (found,) = documents('lost')
    assert (found['state'], found['value']) == ('lost', 0.0)
    assert 'not finite, or beyond ' in found['message']
    assert 'study lost: none of 1 trials produced a usable network' in capfd.readouterr().out


@pytest.mark.slow
def test_a_training_of_that_name_is_no_trial(worker, documents, mongo_server, tmp_path):
    """A training with exactly these settings exists under the name of the first trial."""
    one = worker('named', 1, ('learning_rate=0.05',))
    jobs.train(one._settings(0, {'learning_rate': 0.05}))
    with pytest.raises(ConfigError, match='already contains symmetric_named_0 of another search'):
        one.run()
    assert documents('named') == []


@pytest.mark.parametrize(
    'damage',
    [
        lambda lines: [lines[0], lines[1][:-9], *lines[2:]],
        lambda lines: [b'{}', *lines],
        lambda lines: [b'\xff\x00', *lines],
        lambda lines: [b'[]', *lines],
    ],
    ids=['cut', 'empty', 'binary', 'list'],
)
def test_a_damaged_journal_is_told(worker, damage):
    one = worker('damaged', 1)
    path = os.path.join(one._folder, 'damaged.journal')
    with open(path, 'rb') as file:
        lines = file.read().split(b'\n')
    assert len(lines) == 3  # the study, its settings, and nothing after the last line
    with open(path, 'wb') as file:
        file.write(b'\n'.join(damage(lines)))
    with pytest.raises(ConfigError, match='the journal of the study, .* cannot be read') as caught:
        worker('damaged', 1)
    assert path in str(caught.value) and '\n' not in str(caught.value)


def test_a_name_that_is_too_long_is_refused(worker):
    with pytest.raises(ConfigError, match='must consist of at most 100 letters'):
        worker('x' * 300, 1)


def test_a_journal_behind_a_link_is_refused(worker, tmp_path):
    one = worker('linked', 1)
    path = os.path.join(one._folder, 'linked.journal')
    os.rename(path, str(tmp_path / 'elsewhere'))
    os.symlink(str(tmp_path / 'elsewhere'), path)
    with pytest.raises(ConfigError, match='is a link'):
        worker('linked', 1)


def test_a_bucket_keeps_copies_alone_and_the_journal_is_at_home(worker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = worker('copied', 1, cache_dir='gs://bucket/folder')
    assert one._folder.startswith(str(tmp_path / 'home' / '.tfutils'))
    assert os.path.exists(os.path.join(one._folder, 'copied.study'))
    assert os.listdir(str(tmp_path)) == ['home']


@pytest.mark.slow
def test_a_training_that_fails_ends_the_search_with_its_own_words(worker, documents, tmp_path):
    bad = worker('bad', 1, train_batch_size=4001)
    with pytest.raises(
        TrainingError, match=r'^trial 0 ended with exit code 1 \(error: .*4,001.*its output is in '
    ):
        bad.run()
    assert [each['state'] for each in documents('bad')] == ['failed'] and bad._running() == []


@pytest.mark.slow
def test_a_trial_of_another_study_is_not_gone_on_with(worker, documents, tmp_path):
    """The first study has a different journal; its trials have other settings and must stay."""
    worker('twice', 1).run()
    before = documents('twice')
    other = worker('twice', 1, cache_dir=str(tmp_path / 'elsewhere'))
    with pytest.raises(
        ConfigError,
        match='already contains symmetric_twice_0 of another search: choose another --study',
    ):
        other.run()
    assert documents('twice') == before and other._running() == []


def test_a_study_of_before_touches_no_trial_of_a_newer_one(
    worker, documents, tmp_path, mongo_server
):
    """Its journal comes back: a trial of it seems to have died, and another one to have ended."""
    old, new = worker('back', 1), worker('back', 1, cache_dir=str(tmp_path / 'elsewhere'))
    trials = []
    for each in (old, new):
        trial = each._study.ask()
        values = {dimension.name: each._suggest(trial, dimension) for dimension in each._space}
        trials.append((trial, values, each._settings(trial.number, values)))
    (trial, values, config), (other, others, newer) = trials
    assert config.exp_id == newer.exp_id
    new._note(newer, other, others, state='running')
    before = documents('back')
    gone = subprocess.Popen([sys.executable, '-c', ''])
    gone.wait()
    trial.set_user_attr('machine', search.machine())
    trial.set_user_attr('process', gone.pid)
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        claims = client[DBNAME]['fc_7-5.claims']
        held = claim.Claim(claims, config.exp_id)  # by this process, which must not be stopped
        try:
            old._forget_the_dead()
        finally:
            held.release()
    assert old._running() == []
    with pytest.raises(ConfigError, match='of another search'):
        old._note(config, trial, values, state='complete')
    assert documents('back') == before and before[0]['identity'] == new._identity
    new._note(newer, other, others, state='failed')
    assert [found['state'] for found in documents('back')] == ['failed']


@pytest.mark.slow
def test_a_training_with_other_settings_is_not_gone_on_with(worker, documents, mongo_server):
    """The journal was emptied, so only MongoDB knows the earlier trials."""
    one = worker('emptied', 1)
    one.run()
    with open(os.path.join(one._folder, 'emptied.journal'), 'w'):
        pass
    before, space = documents('emptied'), ('learning_rate=0.02:2:log', SPACE[1])
    with pytest.raises(ConfigError, match='already contains symmetric_emptied_0 of another search'):
        worker('emptied', 1, space).run()
    assert documents('emptied') == before


@pytest.mark.parametrize(
    'settings, words',
    [
        (
            dict(load_exp_id='x', load_step=3),
            '--load_step and --load_exp_id have no effect in a search without --load_db',
        ),
        (dict(split='test'), '--split=test is for test.py'),
        (dict(val_exp_id='x'), '--val_exp_id has no effect in a search: '),
        (dict(dry_run=True), '--dry_run is for train.py'),
        (dict(save_to_gfs=('loss', 'top1')), '--save_to_gfs=top1: a search compares'),
    ],
)
def test_what_leaves_nothing_to_judge_is_refused(worker, settings, words):
    with pytest.raises(ConfigError, match=words):
        worker('dry', 1, **settings)


def test_a_search_over_the_images_that_trials_are_compared_on_is_refused(worker):
    with pytest.raises(ConfigError, match='--space=validation_split: .* the same images'):
        worker('split', 1, SPACE + ('validation_split=100,200',))


def test_images_that_cannot_be_used_end_a_search_before_its_first_trial(worker):
    with pytest.raises(DataError, match='cifar-10'):
        worker('unreadable', 1, dataset='cifar10')


@pytest.mark.parametrize('given, count', [(0, 400), (123, 123)])
def test_trials_are_compared_on_training_images(worker, monkeypatch, capfd, given, count):
    trained = []

    def train(self, trial, config):
        trained.append(config.validation_split)
        return search.Outcome('complete', 7, 0.25)

    monkeypatch.setattr(search.Search, '_train', train)
    worker(f'held{given}', 1, validation_split=given).run()
    said = capfd.readouterr().out
    assert trained == [count] and f'--validation_split={count} ' in said.splitlines()[-1]
    assert f'compared on {count} of the 4,000 training images of mnist' in said
    assert 'the test images are not read' in said


def test_where_nothing_can_be_held_out_a_search_says_so(monkeypatch):
    config = Config.of(dict(dataset='imagenet', data_dir='nowhere'), choices())
    same, line = search.held_out(config)
    assert same == config and 'the validation images of --dataset=imagenet' in line
    assert 'an optimistic estimate' in line


def test_a_finite_space_is_drawn_once_each(worker, monkeypatch, capfd):
    tried = []

    def train(self, trial, config):
        tried.append((config.seed, config.activation))
        return search.Outcome('complete', 7, 0.25)

    monkeypatch.setattr(search.Search, '_train', train)
    space = ('seed=1,2,3', 'activation=tanh,relu')
    worker('grid', 4, space).run()
    worker('grid', 30, space).run()
    assert tried == [(seed, activation) for seed in (1, 2, 3) for activation in ('tanh', 'relu')]
    assert 'study grid: 6 trials' in capfd.readouterr().out


def test_a_searched_network_is_looked_for_in_its_own_collection(worker, monkeypatch):
    """The validations of each trial are in the collection of its network."""
    looked = []

    class Looked(search.Store):
        def __init__(self, *place):
            looked.append(places.Place(*place).collname)
            super().__init__(*place)

    monkeypatch.setattr(search, 'Store', Looked)
    settings = dict(layers_list=(), activation='sigmoid')
    one = worker('networks', 2, ('model=resnet18,resnet34',), launch=_ended, **settings)
    with pytest.raises(TrainingError, match='recorded no validation'):
        one.run()
    assert looked == ['resnet18'] * 2  # earlier validations, and those of the training


@pytest.mark.parametrize(
    'results, value',
    [
        (dict(top1=0.75, images=12), 0.75),
        (dict(top1=0.75, images=12, ties=11), 0.75),
        (dict(top1=1.0, images=12, ties=12), 0.0),
    ],
)
def test_a_network_whose_logits_are_all_equal_counts_as_nothing_learned(results, value):
    assert search._top1(results) == value


def test_a_training_without_a_validation_is_no_result(worker):
    one = worker('unvalidated', 1, launch=_ended)
    with pytest.raises(
        TrainingError, match='trial 0 ended with exit code 0 .it recorded no validation'
    ):
        one.run()


def _ended(command, **files):
    """Returns a process that has ended, in place of a training."""
    return _Ended()


class _Ended:
    """A process that has ended successfully."""

    returncode = 0

    def poll(self):
        """Returns the exit code."""
        return self.returncode

    def wait(self):
        """Returns the exit code."""
        return self.returncode


@pytest.mark.slow
def test_a_worker_that_died_leaves_no_trial_behind(worker):
    one = worker('dead', 1)
    trial = one._study.ask()
    gone = subprocess.Popen([sys.executable, '-c', ''])
    gone.wait()
    trial.set_user_attr('machine', search.machine())
    trial.set_user_attr('process', gone.pid)
    assert len(one._running()) == 1
    worker('dead', 1)._forget_the_dead()
    assert one._running() == []


@pytest.mark.slow
def test_the_training_of_a_worker_that_died_is_stopped(worker, mongo_server, capfd):
    """It trains on alone, and holds its experiment. Here it is a process that only waits."""
    one = worker('orphan', 1)
    trial = one._study.ask()
    values = {each.name: one._suggest(trial, each) for each in one._space}
    config = one._settings(trial.number, values)
    waits = 'import sys, time; print(flush=True); time.sleep(600)'
    training, gone = [
        subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
        for code in (waits, 'print()')
    ]
    assert training.stdout.readline() and gone.wait() == 0
    trial.set_user_attr('machine', search.machine())
    trial.set_user_attr('process', gone.pid)
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        claims = client[DBNAME]['fc_7-5.claims']
        held = claim.Claim(claims, config.exp_id)
        claims.update_one({'_id': config.exp_id}, {'$set': {'process': training.pid}})
        try:
            worker('orphan', 1)._forget_the_dead()
            # It has ended, although nobody has waited for it yet.
            assert config.exp_id not in claim.held(claims)
        finally:
            training.kill()
            held.release()
            claims.delete_one({'_id': config.exp_id})
    assert training.wait() == -signal.SIGTERM and one._running() == []
    assert f'stopped process {training.pid}, which still trained' in capfd.readouterr().out


class Hopeless:
    """A trial that must always be stopped."""

    number = 0

    def __init__(self):
        self.reported = []

    def report(self, value, step):
        """Stores the value."""
        self.reported.append((step, value))

    def should_prune(self):
        """Returns True, whatever was reported."""
        return True


@pytest.mark.slow
def test_a_hopeless_training_is_stopped_and_saved(worker, tmp_path):
    one = worker('hopeless', 1, train_epochs=400.0)
    config = Config.of(dict(one._config.values(), exp_id_suffix='_hopeless'), choices())
    trial = Hopeless()
    outcome, step, top1, _ = one._train(trial, config)
    assert outcome == 'pruned' and trial.reported[-1] == (step, top1) and 0 < step < 400 * 30


@pytest.mark.slow
def test_the_program_searches(forks, mongo_server, tmp_path):
    """Runs search.py itself, which reads the flags and trains in a separate process.

    No process opens a file of test images: there are none. `test.py` then misses them.
    """
    idx_files.write(tmp_path, idx_files.arrays(train=600), splits=['train'])
    config = Config.of(
        dict(
            SETTINGS,
            port=mongo_server.port,
            cache_dir=str(tmp_path),
            data_dir=str(tmp_path),
            train_epochs=1.0,
        ),
        choices(),
    )
    words = [as_flag(name, value) for name, value in config.differing().items()]
    done = forks.run('search.py', '--space=seed=1,2', '--study=program', '--trials=1', *words)
    assert done.code == 0 and 'error' not in done.err  # on Python 3.7, Optuna prints a warning
    assert done.out.splitlines()[-1].startswith('a training with these settings: python train.py ')
    assert 'compared on 60 of the 600 training images' in done.out
    assert 'study program: 1 trials' in done.out and '--exp_id_suffix=_program_best' in done.out
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        record = client[DBNAME]['fc_7-5.files'].find_one(
            {'exp_id': 'symmetric_program_0'}, sort=[('step', -1)]
        )
    assert record['validation_results']['topn_val']['images'] == 60
    assert record['params']['train_params']['validation_split'] == 60
    assert record['params']['validation_params']['topn_val']['split'] == 'validation'
    tested = forks.run(
        'test.py',
        'validate',
        '--split=test',
        '--val_exp_id=program_tested',
        '--load_exp_id=symmetric_program_0',
        *words,
    )
    assert tested.code == 1 and 'holds no t10k-images' in tested.err
