"""CIFAR from its archive and from its unpacked files, and errors about damaged ones."""

import os

import numpy as np
import pytest

import cifar_files
from data import DataError, files, load


@pytest.fixture(params=sorted(cifar_files.CLASSES))
def name(request, monkeypatch):
    cifar_files.shrink(monkeypatch)
    return request.param


@pytest.mark.parametrize('where', ['archive', 'folder of the archive', 'files'])
def test_the_images_and_labels(name, where, tmp_path, take):
    files, splits = cifar_files.contents(name)
    folder = (
        tmp_path / cifar_files.CLASSES[name].folder
        if where == 'folder of the archive'
        else tmp_path
    )
    if where == 'archive':
        cifar_files.pack(name, str(tmp_path), files)
    else:
        folder.mkdir(exist_ok=True)
        for path, content in files.items():
            (folder / path).write_bytes(content)
    dataset = load(name, str(tmp_path))
    assert (dataset.train_images, dataset.validation_images, dataset.image_shape) == (
        55,
        13,
        (32, 32, 3),
    )
    assert dataset.label_names[7] == 'name7' and len(dataset.label_names) == dataset.classes
    (batch,) = take(lambda: dataset.validation(13))
    np.testing.assert_array_equal(batch['images'], splits['test'][0])
    np.testing.assert_array_equal(batch['labels'], splits['test'][1])


def test_a_training_image_is_cut_from_one_with_a_border_and_mirrored(name, tmp_path, take):
    files, splits = cifar_files.contents(name)
    cifar_files.pack(name, str(tmp_path), files)
    dataset, (images, labels) = load(name, str(tmp_path)), splits['train']
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)], 'constant')
    found = []
    for batch in take(lambda: dataset.train(55, 5), 3):
        for image, label in zip(batch['images'], batch['labels']):
            cuts = [
                (number, top, left, mirrored)
                for mirrored, shown in ((False, image), (True, image[:, ::-1]))
                for top in range(9)
                for left in range(9)
                for number in np.flatnonzero(
                    (padded[:, top + 16, left + 16] == shown[16, 16]).all(1)
                )
                if (padded[number, top : top + 32, left : left + 32] == shown).all()
            ]
            ((number, top, left, mirrored),) = cuts
            assert labels[number] == label
            found.append((top, left, mirrored))
        assert sorted(batch['labels']) == sorted(labels)
    assert {top for top, _, _ in found} == {left for _, left, _ in found} == set(range(9))
    assert {mirrored for _, _, mirrored in found} == {False, True}


def test_what_a_network_sees(name, tmp_path, evaluate):
    cifar_files.pack(name, str(tmp_path), cifar_files.contents(name)[0])
    dataset = load(name, str(tmp_path))
    seen = evaluate(
        lambda: dataset.normalise(
            np.array([dataset.mean, np.add(dataset.mean, dataset.deviation)])[None, None]
        )
    )
    np.testing.assert_allclose(seen[0, 0], [[0, 0, 0], [1, 1, 1]], atol=1e-5)


@pytest.mark.parametrize(
    'damage, words',
    [
        ('nothing there', ['contains neither', '--data_dir', 'the binary version']),
        ('no archive', ['cannot be unpacked']),
        ('cut short', ['cannot be unpacked']),
        ('a file is missing', ['does not contain']),
        ('a file is short', ['bytes, not']),
        ('a label', ['The label', 'of image 2 (from 0) in', 'is not one of']),
        ('the names', ['classes, not']),
    ],
)
def test_damage_is_told_in_a_sentence(name, damage, words, tmp_path):
    cls, (held, _) = cifar_files.CLASSES[name], cifar_files.contents(name)
    first, size = cls.files['train'][0], cls.label_bytes + 3072
    position = 2 * size + cls.label_bytes - 1
    changed = {
        'a file is missing': lambda: held.pop(first),
        'a file is short': lambda: held.update({first: held[first][:-size]}),
        'a label': lambda: held.update(
            {first: held[first][:position] + b'\xc8' + held[first][position + 1 :]}
        ),
        'the names': lambda: held.update({cls.names: b'cat dog'}),
    }
    changed.get(damage, lambda: None)()
    path = str(tmp_path / cls.archive)
    if damage == 'no archive':
        (tmp_path / cls.archive).write_bytes(b'<html>not found</html>')
    elif damage != 'nothing there':
        cifar_files.pack(name, str(tmp_path), held)
    if damage == 'cut short':
        os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(DataError) as caught:
        load(name, str(tmp_path))
    assert all(word in str(caught.value) for word in words) and '\n' not in str(caught.value)


def test_an_archive_that_grows_too_large_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(files, 'SMALL', 1 << 20)
    cls, contents = cifar_files.CLASSES[name], cifar_files.contents(name)[0]
    contents['more.bin'] = bytes(1 << 26)
    cifar_files.pack(name, str(tmp_path), contents)
    assert os.path.getsize(str(tmp_path / cls.archive)) < 1_200_000
    with pytest.raises(DataError, match='cannot be unpacked .its files have more than'):
        load(name, str(tmp_path))


def test_a_preprocessing_is_refused(name, tmp_path):
    with pytest.raises(
        DataError, match='--preprocessing=plain has no meaning for --dataset=' + name
    ):
        load(name, str(tmp_path), preprocessing='plain')
