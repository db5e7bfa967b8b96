"""A run that was killed has recorded steps after its newest checkpoint; the one that continues it
replaces them, the last one as well.
"""

import tiny
from training import loop


class Noted:
    """What a Run needs of a Store; it notes which records each record replaces.

    earlier: [(step, id)] of the records that are there.
    """

    exp_id, taken, failure = 'anew', None, None

    def __init__(self, earlier):
        self.earlier, self.replaced = earlier, []

    def after(self, step):
        return [(recorded, name) for recorded, name in self.earlier if recorded > step]

    def records(self, query):
        del query
        return iter(())

    def save(self, record, replacing=(), **more):
        del more
        self.replaced.append((record['step'], list(replacing)))
        return record['_id']


def test_a_record_replaces_all_that_are_not_after_it(tmp_path):
    exp = tiny.experiment(train_epochs=1.0, epochs_per_checkpoint=2 / 3, validate_first=False)
    store = Noted([(1, 'one'), (2, 'two'), (3, 'three'), (4, 'four')])
    with tiny.session(exp) as opened:
        loop.Run(opened, exp, store, str(tmp_path), {}, say=lambda line: None).train()
    assert store.replaced == [(2, ['one', 'two']), (3, ['three'])]
