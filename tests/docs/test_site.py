"""The documentation site, and the links of every Markdown file."""

import ast
import glob
import os
import re
import subprocess

import pytest

import every
import test_commands
from test_architecture import IN_PACKAGES, ROOT, defined, tree

MKDOCS = os.path.join(ROOT, '.venv-docs', 'bin', 'mkdocs')
OTHERS = [
    os.path.relpath(path, ROOT)
    for pattern in ('*.md', 'tests/*/*.md')
    for path in sorted(glob.glob(os.path.join(ROOT, pattern)))
]


def links():
    """[(file, path, anchor)] of the links of the pages that test_commands.py does not look at."""
    found = []
    for path in set(OTHERS) - set(test_commands.PATHS):
        with open(os.path.join(ROOT, path), encoding='utf-8') as file:
            linked = re.findall(r'\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)', file.read())
        found += [(path, target, anchor) for target, anchor in linked]
    return sorted(set(found))


test_a_link_of_another_page_leads_somewhere = every.case_of(links())(test_commands.leads_somewhere)


@pytest.mark.parametrize('path', sorted({*test_commands.PATHS, *OTHERS}))
def test_the_blocks_of_a_page_are_closed(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        text = file.read()
    assert len(re.findall(r'(?m)^```', text)) % 2 == 0
    outside = re.sub(r'(?ms)^```.*?^```', '', text)
    assert len(re.findall(r'(?m)^\$\$', outside)) % 2 == 0


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The folder of the site, built here without a warning."""
    if not os.path.exists(MKDOCS):
        pytest.skip('the site needs the environment that `make docs` makes')
    folder = tmp_path_factory.mktemp('site')
    words = [MKDOCS, 'build', '--quiet', '--strict', '--site-dir', str(folder)]
    env = dict(os.environ, NO_MKDOCS_2_WARNING='1')
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, '')
    return folder


def html(site):
    """{path in the site: text} of its pages."""
    found = {}
    for path in sorted(glob.glob(os.path.join(str(site), '**', '*.html'), recursive=True)):
        with open(path, encoding='utf-8') as file:
            found[os.path.relpath(path, str(site))] = file.read()
    return found


@pytest.mark.slow
def test_the_site_has_every_page_and_loads_nothing_from_the_network(site):
    pages = html(site)
    names = [name for name in os.listdir(os.path.join(ROOT, 'docs')) if name.endswith('.md')]
    assert {name[: -len('.md')] + '.html' for name in names} - set(pages) <= {'README.html'}
    assert {'index.html', 'contributing.html', 'api/alignment.html'} <= set(pages)
    for name, text in pages.items():
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*? src="?([^" >]+)', text)
        loaded += re.findall(r'<link[^>]*? href="?([^" >]+)', text)
        assert [url for url in loaded if re.match(r'(https?:)?//', url)] == [], name
    assert os.path.getsize(str(site / 'site' / 'mathjax.js')) > 1e6


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    text = ''.join(page for name, page in html(site).items() if name.startswith('api'))
    anchors = set(re.findall(r'id="?([\w.]+)', text))
    names = {
        f'{path[: -len(".py")].replace(os.sep, ".")}.{name}'
        for path in IN_PACKAGES
        if not path.endswith('__init__.py')
        for name, node in defined(tree(path))
        if ast.get_docstring(node)
    }
    assert len(names) > 300 and sorted(names - anchors) == []


@pytest.mark.slow
def test_formulas_are_marked_for_mathjax(site):
    text = html(site)['rules.html']
    assert text.count('class="arithmatex"') + text.count('class=arithmatex') > 30
    assert '$$' not in re.sub(r'(?s)<script.*?</script>', '', text)
