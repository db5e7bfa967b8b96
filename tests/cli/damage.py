"""Ways to damage a file of TFRecords whose first record stays intact: DAMAGES[how](path)."""

import json
import os

from training import runtime  # noqa: F401 (first, because it prepares TensorFlow)
import io

import tensorflow.compat.v1 as tf
from PIL import Image


def _bytes(change):
    """Damages the bytes of the file."""

    def damage(path):
        with open(path, 'rb') as file:
            content = change(file.read())
        with open(path, 'wb') as file:
            file.write(content)

    return damage


def _last_example(change):
    """Damages the features of the last record, which stays well-formed."""

    def damage(path):
        records = list(tf.python_io.tf_record_iterator(path))
        example = tf.train.Example.FromString(records[-1])
        change(example.features.feature)
        with tf.python_io.TFRecordWriter(path) as writer:
            for record in records[:-1] + [example.SerializeToString()]:
                writer.write(record)

    return damage


def _halve(features):
    images = features['images'].bytes_list.value
    images[0] = images[0][: len(images[0]) // 2]


def _mislabel(features):
    features['labels'].int64_list.value[0] = 5


def _unlabel(features):
    del features['labels']


def _png(features):
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(features['images'].bytes_list.value[0])) as image:
        image.save(buffer, 'PNG')
    features['images'].bytes_list.value[0] = buffer.getvalue()


def _text(features):
    features['images'].bytes_list.value[0] = b'this is no photograph'


DAMAGES = {
    'nothing': _bytes(lambda content: content),
    'flipped_bit': _bytes(
        lambda content: content[:-999] + bytes([content[-999] ^ 1]) + content[-998:]
    ),
    'cut_off': _bytes(lambda content: content[:-99]),
    'half_a_jpeg': _last_example(_halve),
    'no_jpeg': _last_example(_text),
    'png': _last_example(_png),
    'label_missing': _last_example(_unlabel),
    'label_out_of_range': _last_example(_mislabel),
}


def describe(folder, **changes):
    """Writes a folder's dataset.json as another program would, with some changes.

    The names and sizes of the files are left out.
    """
    path = os.path.join(folder, 'dataset.json')
    with open(path) as file:
        description = dict(json.load(file), **changes)
    description.pop('shards', None)
    with open(path, 'w') as file:
        json.dump(description, file)
    return path
