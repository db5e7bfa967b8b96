"""What a command does with its flags, and its exit codes."""

import absl.flags
import pytest

from alignment.rules import declarations
from config import flags
from config.rows import ConfigError


def asked(values, words):
    """A command that does what its first argument says."""
    if words[1:] == ['settings']:
        raise ConfigError(f'no port {values.port}')
    if words[1:] == ['disk']:
        raise OSError('full')
    return 0 if words[1:] == [] else 7


def run(*words):
    """Returns the exit code of a command that has a separate table of flags."""
    values = flags.FlagValues()
    flags.define_flags({'alignment': declarations()}, values)
    return flags.run(asked, (OSError,), ['program', *words], values)


@pytest.mark.parametrize(
    'words, code, sentence',
    [
        (['--port=3'], 0, ''),
        (['another'], 7, ''),
        (['--port=3', 'settings'], 2, 'error: no port 3\n'),
        (['disk'], 1, 'error: full\n'),
        (['--port=three'], 2, 'error: flag --port=three: invalid literal'),
        (['--helm'], 2, "error: Unknown command line flag 'helm'"),
    ],
)
def test_exit_codes(words, code, sentence, capsys):
    assert run(*words) == code
    out, err = capsys.readouterr()
    assert out == '' and err.startswith(sentence) and len(err.splitlines()) == bool(sentence)


def test_what_is_not_for_the_user_is_not_caught():
    with pytest.raises(ZeroDivisionError):
        flags.run(lambda values, words: 1 // 0, (OSError,), ['program'], flags.FlagValues())


def test_a_setting_with_the_name_of_another_librarys_flag_is_refused():
    values = flags.FlagValues()
    absl.flags.DEFINE_bool('delta', False, 'of a library', flag_values=values)
    new = dict(declarations(), new={'delta': ('coefficient', 0.5, '')})
    with pytest.raises(ConfigError, match='the setting delta has the name of a flag of absl'):
        flags.define_flags({'alignment': new}, values)
