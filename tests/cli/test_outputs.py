"""What commands print, where nobody can read it, and signals of schedulers and terminals."""

import os
import re
import signal
import subprocess
import sys

import pytest

import commands

FC = ['train.py'] + commands.FC


@pytest.mark.slow
def test_quiet_and_verbose(run, where, records):
    words = FC + where + ['--train_epochs=0.2']
    quiet = run(*words, '--exp_id_suffix=_quiet', '--quiet')
    (line,) = commands.succeeded(quiet)[:1]
    assert [line.partition(':')[0] for line in commands.succeeded(quiet)] == [
        'results',
    ] and 'exp_id symmetric_quiet at' in line
    usual = commands.succeeded(run(*words, '--exp_id_suffix=_usual'))
    verbose = commands.succeeded(run(*words, '--exp_id_suffix=_verbose', '--verbose'))
    found = re.fullmatch(
        r'(\d+) variables: (\d+) trainable, 0 restored, (\d+) new \(--verbose lists them\)',
        next(line for line in usual if ' variables: ' in line),
    )
    listed = [line for line in verbose if re.fullmatch(r'  \S+ +\S+ +.* +new', line)]
    assert len(listed) == int(found.group(1)) == int(found.group(3)) > int(found.group(2)) > 0
    assert any(
        re.match('  dense0/backward_kernel +7x784 +backward kernel +new$', x) for x in listed
    )
    slot = '  dense0/backward_kernel/Adam +7x784 +slot of adam +new$'
    assert any(re.match(slot, line) for line in listed)
    assert not any(line in usual for line in listed)
    contents = [
        [(record['step'], record.get('train_results')) for record in records('symmetric' + name)]
        for name in ('_quiet', '_usual', '_verbose')
    ]
    assert contents[0] == contents[1] == contents[2] != []


@pytest.mark.slow
def test_a_training_goes_on_when_its_reader_has_died(forks, where, records):
    words = FC + where + ['--exp_id_suffix=_unread', '--train_epochs=2']
    running = forks.start(*words)
    running.stdout.readline()
    running.stdout.close()
    assert running.wait() == 0
    assert [record['step'] for record in records('symmetric_unread')][-1] == 60


@pytest.mark.nightly
@pytest.mark.parametrize('how', ['full disk', 'closed', 'ascii'])
def test_a_training_goes_on_whatever_its_output_is(where, records, home, how):
    name = how.replace(' ', '_')
    words = [sys.executable] + FC + where + ['--exp_id_suffix=_' + name, '--train_epochs=2']
    given = commands.environment(home)
    if how == 'ascii':
        given = dict(given, PYTHONIOENCODING='ascii', LC_ALL='C')
    shell = {'full disk': '"$@" >/dev/full 2>&1', 'closed': '"$@" <&- >&- 2>&-', 'ascii': '"$@"'}
    done = subprocess.run(
        ['sh', '-c', shell[how], 'sh'] + words,
        cwd=commands.ROOT,
        env=given,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert [record['step'] for record in records('symmetric_' + name)][-1] == 60


@pytest.mark.nightly
@pytest.mark.parametrize(
    'name, code', [('SIGHUP', 129), ('SIGUSR1', 138), ('SIGUSR2', 140), ('SIGXCPU', 152)]
)
def test_other_signals_save_and_stop_as_well(forks, where, records, ending, folder, name, code):
    words = FC + where + ['--exp_id_suffix=_' + name, '--train_epochs=50']
    running = forks.start(*words)
    commands.reach(running, 'step 12 of 1,500')
    for _ in range(2):  # a scheduler may send it again
        running.send_signal(getattr(signal, name))
    done = commands.end(running)
    assert done.code == code
    assert commands.unexpected(done.err) == [f'stopped by {name}; --do_restore resumes it']
    assert ending('symmetric_' + name)['signal'] == name
    reached = records('symmetric_' + name)[-1]['step']
    assert reached >= 12
    assert os.path.exists(folder('symmetric_' + name) + f'/checkpoint-{reached}.index')
