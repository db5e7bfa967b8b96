"""The command line in the form in which the programs parse it."""

import json

import absl.flags
import pytest

from config import flags, params, schema


@pytest.fixture(scope='session')
def choices():
    """The real registries."""
    from training.choices import choices

    return choices()


@pytest.fixture(scope='session')
def command_line(choices):
    """Returns a function that parses a command line.

    command_line('--port=1', ...) returns {flags, help, given, differing, ignored}, or config_error
    or flag_error.
    """

    def run(*argv):
        values = flags.FlagValues()
        flags.define_flags(choices, values)
        answer = {'flags': sorted(values), 'help': {name: values[name].help for name in values}}
        try:
            values(['program', *argv])
            asked = params.read(values, choices)
            answer.update(
                given=flags.given_flags(values, choices),
                differing=asked.config.differing(),
                ignored=asked.ignored,
                unknown=asked.unknown,
                explicit=sorted(asked.explicit),
                exp_id=asked.config.exp_id,
            )
        except schema.ConfigError as error:
            answer['config_error'] = str(error)
        except absl.flags.Error as error:
            answer['flag_error'] = str(error)
        return json.loads(json.dumps(answer))  # lists, as in the tests

    return run
