"""The event files, read with TensorBoard's own reader."""

import os

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (
    HISTOGRAMS,
    SCALARS,
    EventAccumulator,
)

from training.tensorboard import Board

RESULTS = {
    'topn_val': {
        'top1': 0.25,
        'images': 13,
        'weight_angles': {'dense0': 87.5, 'dense1': None, 'dense_output': 5.0},
        'gradient_angles': {},
        'projection_angles': {'dense0': None},
        'weightsq_norm': {'dense0': 3.5},
        'per_image': [1.0, 2.0],
    }
}


def read(folder):
    """Returns what TensorBoard shows of a folder: {tag: [(step, value or histogram)]}, twice.

    The first dictionary holds the scalars, and the second the histograms.
    """
    shown = EventAccumulator(str(folder), size_guidance={SCALARS: 0, HISTOGRAMS: 0})
    shown.Reload()
    tags = shown.Tags()
    return (
        {
            tag: [(event.step, event.value) for event in shown.Scalars(tag)]
            for tag in tags['scalars']
        },
        {
            tag: [(event.step, event.histogram_value) for event in shown.Histograms(tag)]
            for tag in tags['histograms']
        },
    )


def test_steps_and_a_validation(tmp_path):
    board = Board(str(tmp_path), 0)
    board.write(2, 7, 0.5, [{'loss': np.float32(3.5)}, {'loss': 2.0}], RESULTS)
    board.write(3, 7, 0.25, [{'loss': 1.0}], {})
    board.close()
    numbers, shapes = read(tmp_path)
    assert numbers == {
        'train/loss': [(1, 3.5), (2, 2.0), (3, 1.0)],
        'train/images_per_second': [(2, 14.0), (3, 28.0)],
        'topn_val/top1': [(2, 0.25)],
        'topn_val/images': [(2, 13.0)],
        'topn_val/weightsq_norm/dense0': [(2, 3.5)],
        'topn_val/weight_angles/dense0': [(2, 87.5)],
        'topn_val/weight_angles/dense_output': [(2, 5.0)],
    }
    assert set(shapes) == {'topn_val/weight_angles/all'}
    ((step, shape),) = shapes['topn_val/weight_angles/all']
    assert (step, shape.num, shape.min, shape.max, shape.sum) == (2, 2, 5.0, 87.5, 92.5)
    in_bins = {limit: count for limit, count in zip(shape.bucket_limit, shape.bucket) if count}
    assert in_bins == {90.0: 1, 10.0: 1}


def test_what_a_killed_run_wrote_of_later_steps_is_hidden(tmp_path):
    for start, losses in ((0, [4.0, 3.0, 2.0]), (2, [2.5, 1.5])):
        board = Board(str(tmp_path), start)
        board.write(start + len(losses), 7, 0.5, [{'loss': loss} for loss in losses], {})
        board.close()
    assert read(tmp_path)[0]['train/loss'] == [(1, 4.0), (2, 3.0), (3, 2.5), (4, 1.5)]


@pytest.mark.parametrize('damage', ['a file', 'gone'])
def test_a_folder_that_takes_nothing_is_told_once(tmp_path, damage):
    said, folder = [], str(tmp_path / 'board')
    if damage == 'a file':
        with open(folder, 'w') as file:
            file.write('not a folder')
    board = Board(folder, 0, said.append)
    if damage == 'gone':
        board._writer = type('Full', (), {'add_summary': staticmethod(_full)})
    for step in (1, 2):
        board.write(step, 7, 0.5, [{'loss': 1.0}], {})
    board.close()
    assert len(said) == 1 and said[0].startswith(
        'warning: --tensorboard: cannot write to ' + folder
    )
    assert os.listdir(str(tmp_path)) == ['board']


def _full(*arguments):
    raise OSError(28, 'No space left on device')
