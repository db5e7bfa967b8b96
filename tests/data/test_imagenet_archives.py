"""ImageNet's archives and folders in small: synsets, archives of archives, and their errors."""

import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from data import build_tfrecords, load

SYNSETS = ('n01440764', 'n02105855', 'n03710637')
COUNTS = (5, 4, 3)
VALIDATION = ('n03710637', 'n01440764', 'n03710637', 'n02105855')


def photograph(number, form='JPEG', mode='RGB'):
    """Returns the bytes of an image with the grey value 20 * number."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((7 + number, 13, 3), 20 * number, np.uint8)).convert(mode).save(
        buffer, form
    )
    return buffer.getvalue()


def training():
    """Returns {synset: {name: bytes}}. One image is a PNG and one is CMYK, as in ImageNet."""
    images, number = {}, 0
    for synset, count in zip(SYNSETS, COUNTS):
        images[synset] = {}
        for index in range(count):
            form = {3: dict(form='PNG'), 6: dict(mode='CMYK')}.get(number, {})
            images[synset][f'{synset}_{10 + index}.JPEG'] = photograph(number, **form)
            number += 1
    return images


def tar(path, members):
    with tarfile.open(str(path), 'w') as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def unpacked(folder, members):
    folder.mkdir(parents=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)


@pytest.fixture
def source(tmp_path):
    """A folder with both archives and the list of synsets."""
    folder = tmp_path / 'imagenet'
    folder.mkdir()
    inner = {
        synset + '.tar': tar(tmp_path / 'inner.tar', images)
        for synset, images in training().items()
    }
    tar(folder / 'ILSVRC2012_img_train.tar', inner)
    images = {
        f'ILSVRC2012_val_{number:08d}.JPEG': photograph(number) for number in (3, 1, 4, 2)
    }  # deliberately out of order
    tar(folder / 'ILSVRC2012_img_val.tar', images)
    (folder / 'synsets.txt').write_text('\n'.join(VALIDATION) + '\n')
    return folder


def build(source, out, *options):
    return build_tfrecords.main(
        [
            'imagenet',
            str(source),
            str(out),
            '--validation_synsets=' + str(source / 'synsets.txt'),
            '--shards=2',
        ]
        + list(options)
    )


def stored(out, take):
    """Returns the sorted [(label, grey)] of each split."""
    dataset = load('imagenet', str(out), 8, preprocessing='plain')
    batches = take(lambda: dataset.train(12, seed=0), 1) + take(lambda: dataset.validation(4), 1)
    return [
        sorted(
            (int(label), int(round(image.mean() / 20)))
            for label, image in zip(batch['labels'], batch['images'])
        )
        for batch in batches
    ]


EXPECTED = [
    sorted((label, number) for number, label in enumerate([0] * 5 + [1] * 4 + [2] * 3)),
    sorted((SYNSETS.index(synset), number) for number, synset in enumerate(VALIDATION, 1)),
]


def test_archives(source, tmp_path, take, capsys):
    assert build(source, tmp_path / 'out') == 0
    description = json.loads((tmp_path / 'out' / 'dataset.json').read_text())
    assert description['label_names'] == list(SYNSETS) and description['left_out'] == []
    assert (description['train_images'], description['validation_images']) == (12, 4)
    assert description['converted'] == {'PNG': 1, 'JPEG CMYK': 1}
    assert '1 JPEG CMYK, 1 PNG converted to JPEG' in capsys.readouterr().out
    assert stored(tmp_path / 'out', take) == EXPECTED
    assert sorted(os.listdir(str(source))) == [
        'ILSVRC2012_img_train.tar',
        'ILSVRC2012_img_val.tar',
        'synsets.txt',
    ]


@pytest.mark.slow
def test_archives_that_are_unpacked_in_part_or_whole_give_the_same_images(source, tmp_path, take):
    assert build(source, tmp_path / 'archives') == 0
    half = tmp_path / 'half'
    (half / 'train').mkdir(parents=True)
    for synset, images in training().items():
        tar(half / 'train' / (synset + '.tar'), images)
    shutil.copy(str(source / 'synsets.txt'), str(half))
    unpacked(
        half / 'val',
        {f'ILSVRC2012_val_{number:08d}.JPEG': photograph(number) for number in range(1, 5)},
    )
    assert build(half, tmp_path / 'half_out') == 0
    whole = tmp_path / 'whole'
    for synset, images in training().items():
        unpacked(whole / 'train' / synset, images)
    for synset in set(VALIDATION):
        unpacked(
            whole / 'validation' / synset,
            {
                f'{number}.JPEG': photograph(number)
                for number, other in enumerate(VALIDATION, 1)
                if other == synset
            },
        )
    assert (
        build_tfrecords.main(['imagenet', str(whole), str(tmp_path / 'whole_out'), '--shards=2'])
        == 0
    )
    for name in ('archives', 'half_out', 'whole_out'):
        assert stored(tmp_path / name, take) == EXPECTED


def test_the_usual_number_of_files(source, tmp_path):
    assert (
        build_tfrecords.main(
            [
                'imagenet',
                str(source),
                str(tmp_path / 'out'),
                '--validation_synsets=' + str(source / 'synsets.txt'),
            ]
        )
        == 0
    )
    assert (
        len(list((tmp_path / 'out').glob('train-*-of-00012'))) == 12
    )  # the default is 1024, but there are never more files than images


def test_a_damaged_image_is_named_by_its_place_in_the_archives(source, tmp_path, capsys):
    images = training()
    images['n02105855']['n02105855_11.JPEG'] = photograph(6)[:150]
    tar(
        source / 'ILSVRC2012_img_train.tar',
        {
            synset + '.tar': tar(tmp_path / 'inner.tar', members)
            for synset, members in images.items()
        },
    )
    assert build(source, tmp_path / 'out') == 0
    said = capsys.readouterr()
    assert (
        'ILSVRC2012_img_train.tar: n02105855.tar/n02105855_11.JPEG' in said.err
        and '1 unreadable' in said.out
    )


def refused(capsys, code):
    assert code == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_synsets_that_do_not_fit(source, tmp_path, capsys):
    out = tmp_path / 'out'
    assert 'Give --validation_synsets' in refused(
        capsys, build_tfrecords.main(['imagenet', str(source), str(out)])
    )
    (source / 'synsets.txt').write_text('\n'.join(VALIDATION[:3]))
    assert 'names 3 synsets, but' in refused(capsys, build(source, out))
    (source / 'synsets.txt').write_text('\n'.join(VALIDATION[:3] + ('n09999999',)))
    assert "validation images of the class 'n09999999', but no training images" in refused(
        capsys, build(source, out)
    )
    (source / 'synsets.txt').write_bytes(bytes(range(128, 256)))
    assert 'names 1 synsets' in refused(capsys, build(source, out))
    (source / 'synsets.txt').unlink()
    assert 'No such file' in refused(capsys, build(source, out))
    assert not out.exists()


def test_archives_that_are_cut_off_compressed_or_none(source, tmp_path, capsys):
    path, out = source / 'ILSVRC2012_img_train.tar', tmp_path / 'out'
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert 'ILSVRC2012_img_train.tar' in refused(capsys, build(source, out))
    path.write_bytes(b'no archive' * 200)
    assert 'is not a complete, uncompressed .tar' in refused(capsys, build(source, out))
    with tarfile.open(str(path), 'w:gz') as archive:
        archive.add(str(source / 'synsets.txt'), 'n01440764.tar')
    assert 'is not a complete, uncompressed .tar' in refused(capsys, build(source, out))
    tar(path, {'n01440764.tar': b'no archive' * 200})
    assert 'ILSVRC2012_img_train.tar: n01440764.tar is not a complete' in refused(
        capsys, build(source, out)
    )
    tar(path, {'notes.txt': b''})
    assert 'neither a folder nor a .tar' in refused(capsys, build(source, out))
    tar(path, {'n01440764.tar': tar(tmp_path / 'inner.tar', {})})
    assert 'no images of the synset n01440764' in refused(capsys, build(source, out))
    path.unlink()
    assert 'holds none of ILSVRC2012_img_train.tar, train' in refused(capsys, build(source, out))
    assert not out.exists()


def test_an_archive_may_end_within_an_image_only_where_it_is_said(source, tmp_path, capsys):
    path = source / 'ILSVRC2012_img_val.tar'
    members = tarfile.open(str(path)).getmembers()
    path.write_bytes(path.read_bytes()[: members[-1].offset_data + 100])
    assert 'ILSVRC2012_img_val.tar' in refused(capsys, build(source, tmp_path / 'out'))


def test_the_same_synset_or_image_twice_is_refused(source, tmp_path, capsys):
    path, out = source / 'ILSVRC2012_img_train.tar', tmp_path / 'out'
    images = {
        synset: tar(tmp_path / 'inner.tar', members) for synset, members in training().items()
    }
    tar(
        path,
        {
            **{synset + '.tar': content for synset, content in images.items()},
            'more/n01440764.tar': images['n01440764'],
        },
    )
    assert 'holds the synset n01440764 twice' in refused(capsys, build(source, out))
    with tarfile.open(str(path), 'w') as archive:
        for _ in range(2):
            info = tarfile.TarInfo('n01440764.tar')
            info.size = len(images['n01440764'])
            archive.addfile(info, io.BytesIO(images['n01440764']))
    assert 'holds n01440764.tar twice' in refused(capsys, build(source, out))
    path.unlink()
    unpacked(source / 'train' / 'n01440764', training()['n01440764'])
    (source / 'train' / 'n01440764.tar').write_bytes(images['n01440764'])
    assert 'holds the synset n01440764 twice' in refused(capsys, build(source, out))
    assert not out.exists()


def test_two_folders_to_validate_with_are_refused(source, tmp_path, capsys):
    for name in ('val', 'validation'):
        unpacked(source / name / 'n01440764', {'1.JPEG': photograph(1)})
    assert build(source, tmp_path / 'out') == 0  # it reads the archive
    (source / 'ILSVRC2012_img_val.tar').unlink()
    assert 'holds both val and validation' in refused(capsys, build(source, tmp_path / 'other'))


def test_the_list_of_synsets(source, tmp_path, take, monkeypatch):
    """A byte order mark, line ends of other systems and ~ are accepted."""
    (source / 'synsets.txt').write_bytes(
        b'\xef\xbb\xbf' + '\r\n'.join(VALIDATION).encode() + b'\r\n\r\n'
    )
    monkeypatch.setenv('HOME', str(tmp_path))
    assert (
        build_tfrecords.main(
            [
                'imagenet',
                '~/imagenet',
                '~/out',
                '--validation_synsets=~/imagenet/synsets.txt',
                '--shards=2',
            ]
        )
        == 0
    )
    assert stored(tmp_path / 'out', take) == EXPECTED


def test_hidden_members_and_pipes_are_no_images(source, tmp_path, take, capsys):
    with tarfile.open(str(source / 'ILSVRC2012_img_val.tar'), 'a') as archive:
        for name in ('._ILSVRC2012_val_00000001.JPEG', '__MACOSX/ILSVRC2012_val_00000001.JPEG'):
            archive.addfile(tarfile.TarInfo(name))
    assert build(source, tmp_path / 'out') == 0
    assert stored(tmp_path / 'out', take) == EXPECTED
    (source / 'ILSVRC2012_img_train.tar').unlink()
    os.mkfifo(str(source / 'ILSVRC2012_img_train.tar'))
    assert 'ILSVRC2012_img_train.tar is a named pipe, not a file.' in refused(
        capsys, build(source, tmp_path / 'other')
    )
