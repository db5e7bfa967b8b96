"""Every command in the README and in docs/ is run by a test, or there is a reason why not.

Its flags, targets and modules exist.
"""

import functools
import glob
import importlib
import os
import re
import shlex
import subprocess
import sys

import pytest

import every

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHELL = (
    r'(make|python|PYTHON=\S+ make|source|config/get|checkpoints/get|pip|mkdir|mongo\w* -'
    r'|tensorboard) ?'
)

# What runs the commands with this beginning: the file of a test, or the reason why no test does.
HOW = [
    ('make (check|test)', 'it runs the tests'),
    ('PYTHON=python3.7 make test', 'it runs the tests'),
    ('(PYTHON=python3.7 )?make train', 'installs; cli/test_train.py runs its two programs'),
    ('make report', 'installs; cli/test_report.py runs its program'),
    (
        'make mnist_rules',
        'half an hour; its program is experiments/mnist_rules.py, the trainings are those of '
        'cli/test_settings_file.py',
    ),
    ('make (scatter|biotorch)', 'hours; experiments/test_biotorch.py runs smaller ones'),
    ('make rules', 'days; experiments/test_trials.py runs a smaller one'),
    ('make bench', 'hours, and a quiet machine'),
    ('python -m benchmarks.reports', 'minutes; benchmarks/test_reports.py runs a smaller one'),
    ('make search', 'minutes; training/test_search.py runs its program'),
    ('make help', 'docs/test_makefile.py'),
    ('make results', 'experiments/test_programs.py'),
    (
        'python -m experiments.results',
        'days; experiments/test_programs.py runs it without trainings',
    ),
    ('make dynamics', 'experiments/test_dynamics.py'),
    (
        'make (depth|transfer|sensitivity|baselines)',
        'hours; experiments/test_miniatures.py trains small ones',
    ),
    (r'python -m experiments.grid', 'minutes; experiments/test_sweep.py runs smaller ones'),
    ('make noise', 'an hour; experiments/test_noise.py runs its program'),
    ('make faults', 'hours; a part of it is faults/test_campaign.py'),
    (
        'python tests/faults/(campaign|hostile|leftovers).py',
        'minutes; a part of it is faults/test_campaign.py',
    ),
    ('make faithful', 'it runs tests/golden'),
    ('make stop-mongodb', 'database/test_server.py'),
    ('(PYTHON=python3.7 )?make setup', 'installs; the tests run in what it makes'),
    ('make lock', 'resolves; docs/test_requirements.py holds what it wrote'),
    ('make docs', 'installs; docs/test_site.py builds the site'),
    (
        r'python train.py --model=fc --layers_list=32,16 --activation=tanh --alignment=symmetric '
        r'--optimizer=adam',
        'cli/test_documented_commands.py',
    ),
    (r'python test.py validate --(model=fc|load_params_file)', 'cli/test_validate.py'),
    (
        r'python (train|test).py .*--load_params_file=config/symmetric.pkl',
        'ImageNet, and files that no network was there for; '
        'config/test_authors.py reads the like, cli/test_golden_checkpoints.py restores the like',
    ),
    (
        r'python search.py --load_params_file=config/mnist_fc_mirror.pkl',
        'minutes; training/test_search.py runs a smaller one',
    ),
    (
        r'python train.py --load_params_file=config/(quickstart|mnist_fc_mirror).pkl .*--override',
        'minutes; cli/test_settings_file.py overrides a setting of another file',
    ),
    (
        r'python train.py --load_params_file=config/mnist_mirror.json',
        'minutes; cli/test_repeated.py trains from a smaller file',
    ),
    (r'python report.py', 'cli/test_report.py'),
    (r'python runs.py command', 'manage/test_repeating.py'),
    (r'python train.py --dbname=quick --exp_id_suffix=_fast_repeated', 'cli/test_repeated.py'),
    (r'python runs.py', 'manage/test_listing.py'),
    (r'python train.py .*--worker_hosts', 'cli/test_several_hosts.py'),
    (r'python train.py .*--tpu_name', 'a TPU; training/test_tpu.py builds and compiles its graph'),
    (
        r'python train.py --load_params_file=config/imagenet_symmetric.pkl --model=resnet18',
        'ImageNet; cli/test_photographs.py runs small photographs',
    ),
    (
        r'python train.py --load_params_file=config/\w+.pkl --data_dir=/data',
        'ImageNet; cli/test_photographs.py runs small photographs',
    ),
    (r'python test.py validate_tpu', 'a TPU; training/test_tpu.py builds and compiles its graph'),
    (
        r'python train.py --(alignment=difference|model=tiny_cnn|dataset=stripes)',
        'docs/test_adding.py',
    ),
    (
        r'python train.py --dataset=fashion_mnist',
        '60,000 images; data/test_fashion_mnist.py reads a few, cli/test_splits_of_commands.py too',
    ),
    (
        r'python train.py --model=lenet',
        'hours; training/test_protocol.py trains with these settings, models/test_small_images.py '
        'tests the network',
    ),
    (r'python train.py \.\.\. --dry_run', 'cli/test_train.py'),
    (r'python -m data.build_tfrecords imagenet', 'data/test_imagenet_archives.py'),
    (r'python -m data.build_tfrecords (folder|mnist)', 'data/test_build_tfrecords.py'),
    (r'python -m benchmarks\.', 'measures; a quiet machine'),
    (r'python tests/golden/conditioning.py', 'measures; two minutes'),
    (r'python -m data.build_tfrecords verify', 'data/test_build_tfrecords.py'),
    (r'python -m config.recipes', 'config/test_recipes.py'),
    (r'config/get_configs.sh', 'cli/test_get_configs.py'),
    (r'source .venv-3.11/bin/activate', 'cli/test_missing_packages.py tells of it'),
    (r'checkpoints/get_checkpoints.sh', 'cli/test_get_checkpoints.py'),
    (r'pip install -e', 'installs; make does it for the tests'),
    (r'mkdir -p mongodb-data && mongod --config mongodb.conf', 'database/test_server.py'),
    (
        r'mongosh',
        'comes from another registry; database/test_documented_queries.py sends the queries',
    ),
    (r'tensorboard', 'serves until it is stopped; training/test_tensorboard.py reads it'),
]
PATHS = ['README.md'] + sorted(
    os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, 'docs', '*.md'))
)


def commands():
    """Returns [(file, command)] from indented code and from text in backquotes."""
    found = []
    for path in PATHS:
        with open(os.path.join(ROOT, path), encoding='utf-8') as file:
            text = re.sub(r'(?ms)^```.*?^```', '', file.read().replace('\\\n', ''))
        lines = re.findall(r'(?m)^    (\S.*)$', text) + re.findall(r'`([^`\n]+)`', text)
        found += [
            (path, re.sub(' +', ' ', re.sub(r' +(#|\(ARGS=).*', '', line)))
            for line in lines
            if re.match(SHELL + '.', line)
        ]
    return sorted(set(found))


COMMANDS = commands()


def test_there_are_commands_in_every_page_that_has_a_reason_for_them():
    without = {f'docs/{name}.md' for name in ('README', 'concepts', 'glossary', 'rules')}
    assert len(COMMANDS) > 40 and {path for path, _ in COMMANDS} >= set(PATHS) - without


@every.case_of(COMMANDS)
def test_a_command_is_run_by_a_test_or_says_why_not(path, command):
    how = next((how for start, how in HOW if re.match(start, command)), None)
    assert how is not None, f'say in HOW which test runs {command!r}, or why none does'
    for file in re.findall(r'[\w/]+\.py', how):
        assert os.path.exists(os.path.join(ROOT, 'tests', file)) or os.path.exists(
            os.path.join(ROOT, file)
        ), file


def test_no_reason_is_left_over():
    assert [
        start for start, _ in HOW if not any(re.match(start, command) for _, command in COMMANDS)
    ] == []


@pytest.mark.slow
def test_the_targets_exist():
    targets = sorted(
        {
            command.split()[-1]
            for _, command in COMMANDS
            if re.match('(PYTHON=\\S+ )?make ', command)
        }
    )
    words = ['make', '-n', *targets, 'PYTHON=' + sys.executable]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert len(targets) > 10 and done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    'command',
    [
        command
        for path, command in COMMANDS
        if re.match('python (train|test).py', command)
        and path != 'docs/adding.md'
        and '...' not in command
    ],
)
def test_the_flags_of_a_command_exist(read, command):
    words = shlex.split(re.sub(r'\(.*?\)', '', command))[1:]
    config = read(words)
    for name, value in re.findall(r'--(\w+)=(\S+)', command):
        if name != 'load_params_file':
            found = config[name]
            assert (
                found == type(found)(value)
                if not isinstance(found, tuple)
                else ','.join(map(str, found)) == value
            ), name


@pytest.mark.parametrize(
    'command',
    sorted({command for _, command in COMMANDS if re.match('python -m \\S+ \\S', command)}),
)
def test_the_options_of_a_module_exist(command, capsys, monkeypatch):
    module, *words = shlex.split(command)[2:]
    command = [words[0]] if words and not words[0].startswith('-') else []
    monkeypatch.setattr(sys, 'argv', [module] + command + ['--help'])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(module).main()
    said = capsys.readouterr().out
    assert stop.value.code == 0 and 'usage:' in said
    assert [
        word for word in words if word.startswith('--') and word.partition('=')[0] not in said
    ] == []


def links():
    """Returns [(file, the target of a link in it, its anchor or '')], without links to the web."""
    found = []
    for path in PATHS:
        with open(os.path.join(ROOT, path), encoding='utf-8') as file:
            linked = re.findall(r'\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)', file.read())
        found += [(path, target, anchor) for target, anchor in linked]
    return sorted(set(found))


def leads_somewhere(path, target, anchor):
    """Checks a link of a page."""
    folder = os.path.join(ROOT, os.path.dirname(path))
    place = os.path.normpath(os.path.join(folder, target)) if target else os.path.join(ROOT, path)
    assert os.path.exists(place)
    assert not anchor or anchor in anchors(place)


test_a_link_leads_somewhere = every.case_of(links())(leads_somewhere)


@functools.lru_cache(maxsize=None)
def anchors(path):
    """Returns the anchors of the titles of a page."""
    with open(path, encoding='utf-8') as file:
        titles = re.findall(r'(?m)^#+ (.*)$', file.read())
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
