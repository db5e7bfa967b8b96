"""The door of a main: flags in, one sentence for a user's mistake, an exit code out. It needs no
TensorFlow.
"""

import sys

from absl import app, flags

from config.schema import ConfigError


def run(main, errors):
    """absl's app.run(main) with a user's mistakes told in one sentence: exit code 2 for settings, 1
    for all else.

    errors: the exception classes, besides ConfigError, whose message is for the user.
    """

    def guarded(argv):
        try:
            return main(argv)
        except (ConfigError,) + tuple(errors) as error:
            print(f'error: {error}', file=sys.stderr)
            return 2 if isinstance(error, ConfigError) else 1

    app.run(guarded, flags_parser=_parse)


def _parse(argv):
    """Parse flags; a flag that does not exist or cannot be read is told in a sentence, without the
    whole help.
    """
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(
            'error: {} (--help lists all flags)'.format(str(error).replace('\n', ' ')),
            file=sys.stderr,
        )
        sys.exit(2)
