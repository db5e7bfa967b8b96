"""The tables of experiments in the documentation are those that `make results` prints."""

import os
import shutil

import pytest

from config.root import ROOT
from experiments import pages, results

PAGES = ('README.md', 'docs/results.md', 'docs/rules.md', 'docs/noise.md')
PAGE = """# Page

| a | b |
|---|---|
| 1 | 2 |

    make first ARGS=--workers=2

| a   | b |
|-----|---|
| old | 2 |
Text.

    make second

| a | b |
|---|---|
| 3 | 4 |

| other | b |
|-------|---|
| 5     | 6 |
"""


def test_a_table_replaces_the_one_with_its_header_under_its_command():
    printed = pages.tables('\nfirst, TF 2\n\n| a | b |\n|---|---|\n| 7 | 8 |\n| 9 | 0 |\n', 'first')
    printed.update(pages.tables('|  other | b |\n|---|---|', 'first'))
    assert set(printed) == {('first', '| a | b |'), ('first', '| other | b |')}
    assert pages.updated(PAGE, printed) == PAGE.replace(
        '| a   | b |\n|-----|---|\n| old | 2 |', '| a | b |\n|---|---|\n| 7 | 8 |\n| 9 | 0 |'
    )
    assert pages.updated(PAGE, {}) == PAGE


@pytest.mark.parametrize('name', PAGES)
def test_the_pages_have_the_tables_that_are_printed(name, tmp_path):
    """`make results ARGS=--update=PAGE` updates a page."""
    path, copied = os.path.join(ROOT, name), tmp_path / os.path.basename(name)
    shutil.copy(path, str(copied))
    results.update(str(copied), results.FOLDER)
    with open(path, encoding='utf-8') as file:
        assert copied.read_text(encoding='utf-8') == file.read()


def test_each_table_of_the_results_is_a_printed_one(monkeypatch, tmp_path):
    """So each of them would be replaced."""
    copied = tmp_path / 'results.md'
    shutil.copy(os.path.join(ROOT, 'docs', 'results.md'), str(copied))
    monkeypatch.setattr(pages, 'updated', lambda page, printed: _without(page, printed))
    results.update(str(copied), results.FOLDER)
    assert copied.read_text(encoding='utf-8').count('| ') == 0


def _without(page, printed):
    for table in printed.values():
        page = page.replace(table, '')
    return page


def test_a_page_that_is_missing(tmp_path, capsys):
    assert results.main([f'--update={tmp_path / "no.md"}']) == 2
    assert 'no.md cannot be updated' in capsys.readouterr().err
