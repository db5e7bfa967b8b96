"""The files about the project as a whole: citation, changelog, and what they say of its version."""

import ast
import os
import re

import pytest
import yaml

from test_architecture import ROOT

NAMES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', 'CITATION.cff']
VERSION = r'## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d|not released yet)'


def read(name):
    """The text of a file in the repository."""
    with open(os.path.join(ROOT, name), encoding='utf-8') as file:
        return file.read()


def version():
    """The version in setup.py."""
    (call,) = [
        node
        for node in ast.walk(ast.parse(read('setup.py')))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'setup'
    ]
    (found,) = [word.value for word in call.keywords if word.arg == 'version']
    return ast.literal_eval(found)


@pytest.fixture(scope='module')
def citation():
    """CITATION.cff, read as YAML."""
    return yaml.safe_load(read('CITATION.cff'))


def test_the_citation_has_what_its_format_requires(citation):
    assert citation['cff-version'] == '1.2.0' and citation['type'] == 'software'
    for document in (citation, citation['preferred-citation']):
        assert document['title'] and document['authors']
        assert all('name' in author or 'family-names' in author for author in document['authors'])
    assert citation['message']


def test_the_paper_is_cited_with_all_of_its_authors(citation):
    paper = citation['preferred-citation']
    assert [author['family-names'] for author in paper['authors']] == [
        'Kunin',
        'Nayebi',
        'Sagastuy-Brena',
        'Ganguli',
        'Bloom',
        'Yamins',
    ]
    assert (paper['year'], paper['volume']) == (2020, 119)
    assert paper['identifiers'] == [{'type': 'other', 'value': 'arXiv:2003.01513'}]


def test_the_versions_agree(citation):
    newest, _ = re.findall(VERSION, read('CHANGELOG.md'))[0]
    assert str(citation['version']) == version() == newest


def test_the_changelog_has_the_form_of_keep_a_changelog():
    text = read('CHANGELOG.md')
    titles = re.findall(r'(?m)^## (?!How)(.*)$', text)
    assert titles[0] == '[Unreleased]'
    assert all(re.fullmatch(VERSION, '## ' + title) for title in titles[1:])
    kinds = {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'}
    assert set(re.findall(r'(?m)^### (.*)$', text)) <= kinds


def test_no_licence_is_claimed(citation):
    assert 'license' not in citation
    assert 'No licence has been chosen yet' in read('CONTRIBUTING.md')


@pytest.mark.parametrize('name', NAMES[1:])
def test_what_the_pages_name_in_backticks_as_a_path_is_there(name):
    paths = re.findall(r'`((?:\w[\w.-]*/)+[\w.-]*)`', read(name))
    assert [path for path in paths if not os.path.exists(os.path.join(ROOT, path))] == []


@pytest.mark.parametrize('name', NAMES[1:])
def test_their_make_targets_exist(name):
    targets = set(re.findall(r'(?m)^([a-z][a-z_-]*):', read('Makefile')))
    named = re.findall(r'(?:`|(?m:^    ))(?:PYTHON=\S+ )?make ([a-z_-]+)', read(name))
    assert [target for target in named if target not in targets] == []
