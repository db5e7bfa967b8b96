"""The command line as the mains see it: flags of a process of their own, because absl has one table
of flags a process.
"""

import json
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = """
import json, sys
from absl import flags
from config import params, schema
choices, argv = json.loads(sys.argv[1])
own = set(flags.FLAGS)
schema.define_flags(choices)
answer = {'flags': sorted(set(flags.FLAGS) - own)}
try:
    flags.FLAGS(['program'] + argv)
    asked = params.read(flags.FLAGS, choices)
    answer.update(given=schema.given_flags(flags.FLAGS), differing=asked.config.differing(), ignored=asked.ignored,
                  unknown=asked.unknown, explicit=sorted(asked.explicit), exp_id=asked.config.exp_id)
except schema.ConfigError as error:
    answer['config_error'] = str(error)
except flags.Error as error:
    answer['flag_error'] = str(error)
answer['help'] = {name: flags.FLAGS[name].help for name in answer['flags']}
print(json.dumps(answer))
"""


@pytest.fixture(scope='session')
def choices():
    """The real registries."""
    from training import experiment

    return experiment.choices()


@pytest.fixture(scope='session')
def command_line(choices):
    """command_line('--port=1', ...) -> {flags, help, given, differing, ignored}, or config_error or
    flag_error.
    """

    def run(*argv):
        done = subprocess.run(
            [sys.executable, '-c', PROGRAM, json.dumps([choices, list(argv)])],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
