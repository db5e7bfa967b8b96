"""Reads the searches of a database and lists their trials, the best first."""

import collections
import warnings
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from pymongo.errors import PyMongoError

from config.flags import as_flag
from database import server
from database.errors import StoreError
from database.place import SEARCHES
from database.types import Document
from reports.stored import PRUNED, TEXT, WHOLE, finite

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# The states of trials, and what they mean.
STATES = {
    'complete': 'trained to the end',
    PRUNED: 'stopped early, because others were better at the same step',
    'lost': 'diverged; it is scored 0',
    'failed': 'ended by an error or by its user',
    'running': 'not finished yet',
}
SCORED = ('complete', 'lost')  # states of trials with a final value
FEWEST = 4  # scored trials without which no importance is computed
WIDE = 30.0  # a range whose ends differ by this factor was searched in the logarithm
Value = Union[float, str]  # of a setting
MOST = 10  # how many of the best trials of a search are listed


class Trial(NamedTuple):
    """A trial of a search.

    Attributes:
        number: The number of the trial within the search.
        state: The outcome of the trial.
        value: Its top-1 as a fraction, or None.
        step: The step of its last validation, or None.
        params: The settings that the search chose.
        exp_id: The name of its run.
    """

    number: int
    state: str
    value: Optional[float]
    step: Optional[int]
    params: Document
    exp_id: str = ''


class Search(NamedTuple):
    """A search.

    Attributes:
        collection: The collection of its runs.
        study: The name of its study.
        trials: Its trials, sorted by number.
    """

    collection: str
    study: str
    trials: List[Trial]


# (heading, function from a trial to the text of the cell)
COLUMNS: Sequence[Tuple[str, Callable[[Trial], str]]] = (
    ('trial', lambda trial: str(trial.number)),
    ('top-1', lambda trial: '-' if trial.value is None else f'{trial.value:.4f}'),
    ('step', lambda trial: '-' if trial.step is None else f'{trial.step:,}'),
    ('state', lambda trial: trial.state),
    ('settings', lambda trial: flags(trial)),
)
NUMBERS = ('trial', 'top-1', 'step')  # columns of numbers


def read(host: str, port: int, dbname: str, collname: Optional[str] = None) -> List[Search]:
    """Reads the searches of a database.

    Args:
        host: Name or address of the MongoDB server.
        port: TCP port of the server.
        dbname: Name of the database.
        collname: Reads only the searches of this collection, or all if None.

    Returns:
        The searches, sorted by collection and study. The list is empty if MongoDB cannot be read.
    """
    found: Dict[Tuple[str, str], List[Trial]] = {}
    try:
        with server.reach(host, port) as client:
            for name in sorted(client[dbname].list_collection_names()):
                collection = name[: -len(SEARCHES)]
                if name.endswith(SEARCHES) and collname in (None, collection):
                    for document in client[dbname][name].find({'study': TEXT, 'trial': WHOLE}):
                        found.setdefault((collection, document['study']), []).append(
                            _trial(document)
                        )
    except (PyMongoError, StoreError):
        return []
    return [
        Search(collection, study, sorted(trials, key=lambda trial: trial.number))
        for (collection, study), trials in sorted(found.items())
    ]


def best(search: Search) -> List[Trial]:
    """Returns the MOST best trials of a search, the best first."""
    return sorted(
        search.trials, key=lambda trial: -1.0 if trial.value is None else trial.value, reverse=True
    )[:MOST]


def flags(trial: Trial) -> str:
    """Returns the settings of a trial as flags. Floats have four significant digits."""
    return ' '.join(as_flag(str(name), _short(value)) for name, value in trial.params.items())


def settings(search: Search) -> List[str]:
    """Returns the names of the settings that a search varies, sorted."""
    return sorted({str(name) for trial in search.trials for name in trial.params})


def importance(search: Search) -> Dict[str, float]:
    """Returns {setting: its importance}, which add up to 1, by Optuna's PED-ANOVA.

    It says how much the settings of the best tenth of the trials differ from those of all
    (https://arxiv.org/abs/2304.10255). Pruned and failed trials are left out: they have no final
    value. The result is empty without Optuna, and if there is too little to compare.
    """
    scored = [
        trial
        for trial in search.trials
        if trial.state in SCORED and trial.value is not None and trial.params
    ]
    names = [name for name in settings(search) if all(name in trial.params for trial in scored)]
    names = [name for name in names if len({str(trial.params[name]) for trial in scored}) > 1]
    if len(scored) < FEWEST or not names or len({trial.value for trial in scored}) < 2:
        return {}
    try:
        import optuna
    except ModuleNotFoundError:
        return {}
    space = {
        name: _distribution([_value(trial.params[name]) for trial in scored]) for name in names
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the evaluator is experimental in some versions
        study = optuna.create_study(direction='maximize')
        for trial in scored:
            params = {name: _value(trial.params[name]) for name in names}
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=space, value=trial.value)
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items()}


def _value(value: object) -> Value:
    """Returns the value of a setting as a number, or as a text."""
    number = finite(value)
    return str(value) if number is None else number


def _distribution(values: Sequence[Value]) -> 'BaseDistribution':
    """Returns Optuna's description of where the values of a setting come from.

    Trials record the values alone, so that the range is that of the values, and it is one in the
    logarithm if the values lie wide apart.
    """
    from optuna import distributions

    known = [value for value in values if not isinstance(value, str)]
    if len(known) < len(values):
        return distributions.CategoricalDistribution(sorted(set(values), key=str))
    low, high = min(known), max(known)
    log = low > 0 and high / low > WIDE
    if all(isinstance(value, int) for value in values):
        return distributions.IntDistribution(int(low), int(high), log=log)
    return distributions.FloatDistribution(low, high, log=log)


def title(search: Search) -> str:
    """Returns one line that summarises a search."""
    states = collections.Counter(trial.state for trial in search.trials)
    counts = ', '.join(f'{count:,} {state}' for state, count in sorted(states.items()))
    return f'Search {search.study} ({search.collection}): {len(search.trials):,} trials, {counts}'


def _trial(document: Document) -> Trial:
    params, step = document.get('params'), finite(document.get('step'))
    return Trial(
        int(document['trial']),
        str(document.get('state', '?')),
        finite(document.get('value')),
        None if step is None else int(step),
        params if isinstance(params, dict) else {},
        str(document['_id']),
    )


def _short(value: object) -> object:
    """Returns a setting; a float is rounded to four significant digits."""
    return float(f'{value:.4g}') if isinstance(value, float) else value
