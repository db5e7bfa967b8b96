"""A whole command is a function from argv to an exit code, and can run repeatedly in a process."""

import pytest

import report
import train
from config import flags

SMALL = ['--dataset=synthetic', '--model=fc', '--layers_list=5', '--image_size=8', '--dry_run']


@pytest.mark.slow
def test_two_commands_have_flags_of_their_own(tmp_path, capsys):
    where = f'--cache_dir={tmp_path}'
    given = ['train.py', '--alignment=symmetric', '--alpha=0.25', where] + SMALL
    assert train.main(given, flags.FlagValues()) == 0
    told = capsys.readouterr()
    assert 'symmetric' in told.out and 'error' not in told.err
    # The rule and the alpha of the first command must not leak into the second one.
    assert train.main(['train.py', '--beta=0.25', where] + SMALL, flags.FlagValues()) == 2
    told = capsys.readouterr()
    assert told.out == '' and told.err.startswith('error: --beta has no effect: alignment=none')


def test_a_flag_that_cannot_be_read_ends_a_command_before_it_begins(capsys):
    for main, words in (
        (train.main, ['train.py', '--port=none']),
        (train.main, ['train.py', '--no_such_flag=1']),
        (report.main, ['report.py', '--most=0']),
    ):
        assert main(words, flags.FlagValues()) == 2
        told = capsys.readouterr()
        assert told.out == '' and words[1][2:].partition('=')[0] in told.err
        assert told.err.startswith('error: ') and told.err.endswith('(--help lists all flags)\n')


def test_a_word_that_is_no_flag_is_refused(capsys):
    assert report.main(['report.py', 'quickstart'], flags.FlagValues()) == 2
    assert capsys.readouterr().err == (
        "error: 'quickstart' is not a flag; settings are given as --name=value\n"
    )
