"""Small CIFAR archives in the layout of the real ones."""

import io
import tarfile

import numpy as np

from data import cifar

IMAGES = {
    'cifar10': dict(train=11, test=13),
    'cifar100': dict(train=55, test=13),
}  # images per file
CLASSES = dict(cifar10=cifar.Cifar10, cifar100=cifar.Cifar100)


def shrink(monkeypatch):
    """Makes the program expect only as many images as the archives of these tests contain."""
    for name, cls in CLASSES.items():
        monkeypatch.setattr(cls, 'images_a_file', IMAGES[name])


def contents(name):
    """Returns ({file name: bytes}, {split: (images uint8 [n, 32, 32, 3], labels uint8 [n])})."""
    cls, random, files, splits = CLASSES[name], np.random.RandomState(3), {}, {}
    files[cls.names] = '\n'.join(f'name{label}' for label in range(cls.classes)).encode() + b'\n\n'
    for split, paths in cls.files.items():
        images, labels = [], []
        for path in paths:
            count = IMAGES[name][split]
            images.append(random.randint(0, 256, (count, 32, 32, 3), dtype=np.uint8))
            labels.append(random.randint(0, cls.classes, count).astype(np.uint8))
            coarse = random.randint(0, 20, (count, cls.label_bytes - 1)).astype(np.uint8)
            planes = [images[-1][..., channel].reshape(count, -1) for channel in range(3)]
            files[path] = np.concatenate([coarse, labels[-1][:, None]] + planes, axis=1).tobytes()
        splits[split] = np.concatenate(images), np.concatenate(labels)
    return files, splits


def pack(name, folder, files):
    """Packs these files into a folder (a str), as the archive of that name."""
    cls = CLASSES[name]
    with tarfile.open(f'{folder}/{cls.archive}', 'w:gz') as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(f'{cls.folder}/{path}')
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
