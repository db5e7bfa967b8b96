"""Carries the journals of searches, from which `search.py` continues them, with their trials."""

import os
import re
from typing import Iterator, List, NamedTuple, Optional, Sequence

from database import private, records
from database.connection import Client
from database.errors import DamagedError, StoreError
from database.place import SEARCHES, Place
from database.spool import STUDIES, StudyFiles, local_folder
from manage import folder as folders
from manage.finding import Where
from manage.folder import Manifest, Writing

CARRIED = 'studies/{}/{}.{}'  # collection, study, and JOURNAL or IDENTITY
JOURNAL, IDENTITY = 'journal', 'study'
PATH = re.compile(r'studies/([^/]+)/([\w-]{1,100})\.study')


class Study(NamedTuple):
    """The study of a search.

    Attributes:
        collection: The collection of its trials.
        name: Its name.
        identity: What distinguishes it from others of the same name.
    """

    collection: str
    name: str
    identity: str

    def files(self, where: Where) -> StudyFiles:
        """Returns the paths of its files in the cache folder."""
        folder = local_folder(where.cache_dir, where.place(self.collection, STUDIES))
        return StudyFiles.of(folder, self.name)

    def text(self) -> str:
        """Returns its name for messages."""
        return f'study {self.name} ({self.collection})'


def of_trials(client: Client, places: Sequence[Place]) -> List[Study]:
    """Returns the studies that some experiments are trials of, sorted.

    Raises:
        PyMongoError: MongoDB cannot be read.
    """
    found = set()
    for place in places:
        trial = client[place.dbname][place.collname + SEARCHES].find_one({'_id': place.exp_id})
        name, identity = [str((trial or {}).get(field)) for field in ('study', 'identity')]
        if trial and PATH.fullmatch(CARRIED.format(place.collname, name, IDENTITY)):
            found.add(Study(place.collname, name, identity))
    return sorted(found)


def export(client: Client, where: Where, study: Study, new: Writing) -> str:
    """Writes the journal of a study to a folder; returns a sentence that says whether it is there.

    Raises:
        OSError: A file of the study cannot be read.
        PyMongoError: MongoDB cannot be read.
    """
    unfinished = {'study': study.name, 'identity': study.identity, 'state': 'running'}
    if client[where.dbname][study.collection + SEARCHES].find_one(unfinished):
        return _not_carried(study, 'it has a trial that has not ended; run its command again first')
    files = study.files(where)
    if _read(files.identity) != study.identity.encode() or not os.path.exists(files.journal):
        return _not_carried(study, f'its journal is not {files.journal}; give its --cache_dir')
    with private.opened(files.journal) as journal:
        whole = journal.read()
    with new.file(CARRIED.format(study.collection, study.name, JOURNAL)) as file:
        file.write(whole[: whole.rfind(b'\n') + 1])  # a search may be writing the last line
    with new.file(CARRIED.format(study.collection, study.name, IDENTITY)) as file:
        file.write(study.identity.encode())
    return f'{study.text()}: its journal, from which search.py continues it'


def _not_carried(study: Study, why: str) -> str:
    return (
        f'{study.text()}: only its trials; search.py cannot continue it from this folder, because '
        f'{why}'
    )


def _read(path: str) -> Optional[bytes]:
    """Returns the content of a file, or None without one."""
    try:
        with private.opened(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


class Arrival(NamedTuple):
    """The journal of a study that is imported.

    Attributes:
        study: The study.
        files: Its files in the cache folder.
        journal: The content of its journal in the exported folder.
    """

    study: Study
    files: StudyFiles
    journal: bytes


def arrivals(where: Where, folder: str, manifest: Manifest) -> Iterator[Arrival]:
    """Iterates over the studies in an exported folder whose journals are not in the cache folder.

    Raises:
        StoreError: The cache folder has another study of the name, or its files cannot be read.
        DamagedError: The exported folder cannot be read, or names a folder that is not legal.
    """
    for path in sorted(manifest.files):
        matched = PATH.fullmatch(path)
        if not matched or where.collection not in (None, matched.group(1)):
            continue
        collection, name = matched.groups()
        records.check_names(where.dbname, collection, STUDIES)
        try:
            with folders.opened(folder, path) as file:
                study = Study(collection, name, file.read().decode('ascii'))
            with folders.opened(folder, CARRIED.format(collection, name, JOURNAL)) as file:
                arrival = Arrival(study, study.files(where), file.read())
        except (OSError, UnicodeDecodeError) as error:
            raise DamagedError(f'{folder}, study {name}, cannot be read ({error}).') from error
        if not _is_here(arrival):
            yield arrival


def _is_here(arrival: Arrival) -> bool:
    """Returns whether the journal of a study is in the cache folder, perhaps with more trials.

    Raises:
        StoreError: The cache folder has another study of the name, or its files cannot be read.
    """
    study, files = arrival.study, arrival.files
    try:
        identity, journal = _read(files.identity), _read(files.journal)
    except OSError as error:
        raise _unusable(files, error) from error
    if identity == study.identity.encode() and journal is not None:
        return True
    # An import that was interrupted between its two files has left the journal alone.
    if identity is None and journal in (None, arrival.journal):
        return False
    raise StoreError(
        f'Another study {study.name} is in {os.path.dirname(files.journal)}. Nothing was imported; '
        'choose another --dbname or --cache_dir.'
    )


def bring(arrival: Arrival) -> str:
    """Puts the journal of a study into the cache folder; returns a sentence that says so.

    Raises:
        StoreError: It cannot be written.
    """
    files, study = arrival.files, arrival.study
    try:
        private.make_folders(os.path.dirname(files.journal))
        for path, content in (
            (files.journal, arrival.journal),
            (files.identity, study.identity.encode()),
        ):
            with private.created(path + folders.PARTIAL) as file:
                file.write(content)
            os.replace(path + folders.PARTIAL, path)
    except OSError as error:
        raise _unusable(files, error) from error
    return f'{study.text()}: its journal is {files.journal}'


def _unusable(files: StudyFiles, error: OSError) -> StoreError:
    return StoreError(
        f'{error.filename or files.journal} cannot be used ({error.strerror or error}). Choose '
        'another --cache_dir, or repair it and run the command again.'
    )
