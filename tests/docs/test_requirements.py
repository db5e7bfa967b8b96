"""The locked requirements: what setup.py asks for, every package of one version and with hashes."""

import os
import re

import pytest
from packaging.requirements import Requirement

import setup_words
from test_architecture import ROOT

RUNTIMES = {'py37': '3.7', 'py311': '3.11'}
FILES = [f'{runtime}{ending}.txt' for runtime in RUNTIMES for ending in ('', '-test')]
PIN = re.compile(
    r'(?m)^([a-z0-9][a-z0-9.-]*)(?:\[[\w,-]+\])?==(\S+)((?: ; [^\\\n]+)?) \\\n'
    r'((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)'
)


def text(name):
    """The text of a file in requirements/."""
    with open(os.path.join(ROOT, 'requirements', name), encoding='utf-8') as file:
        return file.read()


def pins(name):
    """{package: version} of a locked file."""
    return {package: version for package, version, _, _ in PIN.findall(text(name))}


def asked(name):
    """The requirements of setup.py that a locked file of a runtime has to meet."""
    runtime, _, test = name.partition('.')[0].partition('-')
    words = setup_words.read(ROOT)
    extras = ['cpu', 'mongodb', 'mnist', 'report'] + ([test] if test else [])
    environment = {
        'python_version': RUNTIMES[runtime],
        'sys_platform': 'linux',
        'platform_machine': 'x86_64',
    }
    found = words['install_requires'] + [
        each for extra in extras for each in words['extras_require'][extra]
    ]
    requirements = [Requirement(each) for each in found]
    return [
        each for each in requirements if each.marker is None or each.marker.evaluate(environment)
    ]


@pytest.mark.parametrize('name', FILES + ['docs.txt'])
def test_every_line_of_a_locked_file_is_a_version_with_hashes(name):
    rest = re.sub(r'(?m)^ *#.*\n', '', PIN.sub('', text(name)))
    assert rest.strip() == ''
    assert text(name).splitlines()[1].split() == ['#', 'make', 'lock']
    assert '://' not in text(name)


@pytest.mark.parametrize('name', FILES)
def test_a_locked_file_meets_setup_py(name):
    locked = pins(name)
    missing = [str(each) for each in asked(name) if each.name.lower() not in locked]
    assert missing == [] and len(asked(name)) > 9
    wrong = [
        f'{each}: {locked[each.name.lower()]}'
        for each in asked(name)
        if not each.specifier.contains(locked[each.name.lower()], prereleases=True)
    ]
    assert wrong == [], 'run `make lock`'


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_the_tests_add_to_what_trains(runtime):
    trains, tests = pins(runtime + '.txt'), pins(runtime + '-test.txt')
    assert {name: tests.get(name) for name in trains} == trains and len(tests) > len(trains)
    assert {'pip', 'setuptools', 'wheel'} <= set(trains)


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_a_locked_file_is_of_the_tensorflow_of_its_runtime(runtime):
    locked = pins(runtime + '.txt')
    found = {name: locked[name] for name in ('tensorflow', 'tensorflow-cpu') if name in locked}
    assert found == (
        {'tensorflow': '1.13.2'} if runtime == 'py37' else {'tensorflow-cpu': '2.21.0'}
    )
