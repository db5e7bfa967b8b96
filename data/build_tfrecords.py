"""Writes TFRecords and their dataset.json for --dataset=imagenet.

    python -m data.build_tfrecords imagenet SOURCE OUT --validation_synsets FILE
    python -m data.build_tfrecords folder SOURCE OUT [--validation_fraction 0.1]
    python -m data.build_tfrecords mnist OUT
    python -m data.build_tfrecords verify OUT

Run the same command again to resume a build that was stopped. Images that
cannot be read are reported and left out. Images that are not RGB or grey JPEGs
are converted. `verify` counts the images of a folder, compares the counts with
its dataset.json, and compares the files with the checksums in it.
"""

import argparse
import os
import sys
from typing import Optional, Sequence

import tensorflow.compat.v1 as tf

from data.base import MANY_PIXELS, DataError
from data.building import build, verify
from data.sources import SOURCES, limit_pixels

WORTH = 5000  # images that are worth the start of another process


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m data.build_tfrecords',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', metavar='|'.join([*SOURCES, 'verify']))
    commands.required = True
    for name, source in SOURCES.items():
        command = commands.add_parser(name, help=source.help)
        source.add_arguments(command)
        command.add_argument('out', metavar='OUT', help='folder for the TFRecords and dataset.json')
        usual = ' and '.join(str(count) for count in source.shards.values())
        command.add_argument(
            '--shards', type=int, help=f'number of files for each split (default: {usual})'
        )
        command.add_argument(
            '--processes',
            type=int,
            help='number of processes that read images (default: one per core, but '
            f'at most one per {WORTH:,} images)',
        )
        command.add_argument(
            '--max_pixels',
            type=int,
            default=MANY_PIXELS,
            help=f'leave out images of more pixels (default: {MANY_PIXELS:,})',
        )
        command.add_argument(
            '--overwrite', action='store_true', help='replace the TFRecords that are in OUT'
        )
    command = commands.add_parser(
        'verify', help='count the images of OUT and compare its files with their checksums'
    )
    command.add_argument('out', metavar='OUT', help='a folder of TFRecords')
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line and returns the exit code: 0, 1 after an error, or 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    for name in ('source', 'out', 'validation_synsets'):
        if getattr(args, name, None):
            setattr(args, name, os.path.expanduser(getattr(args, name)))
    try:
        return _verify(args) if args.command == 'verify' else _build(args)
    except (DataError, OSError, tf.errors.OpError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f'Stopped. Run the same command again to resume the build in {args.out}.',
            file=sys.stderr,
        )
        return 130


def _build(args: argparse.Namespace) -> int:
    for name in ('shards', 'processes', 'max_pixels'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise DataError(f'--{name}={getattr(args, name)} must be at least 1.')
    limit_pixels(args.max_pixels)
    source = SOURCES[args.command](args)
    usual = min(os.cpu_count() or 1, sum(map(len, source.splits.values())) // WORTH) or 1
    description = build(source, args.out, args.shards, args.overwrite, args.processes or usual)
    converted = ', '.join(
        f'{count:,} {kind}' for kind, count in sorted(description['converted'].items())
    )
    print(
        f'{args.out}: {description["train_images"]:,} training and '
        f'{description["validation_images"]:,} validation '
        f'images of {description["classes"]:,} classes; {converted or "none"} converted to JPEG; '
        f'{len(description["left_out"]):,} unreadable images left out.'
    )
    return 0


def _verify(args: argparse.Namespace) -> int:
    wrong = verify(args.out)
    for sentence in wrong:
        print(f'error: {sentence}', file=sys.stderr)
    if not wrong:
        print(f'{args.out}: all files are as they were written.')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
