"""Records of steps after the newest checkpoint are replaced by the run that continues.

A run that was killed may have left them. The last of them is replaced as well.
"""

import tiny
from training import loop


class Noted:
    """The part of a Store that Run needs; it notes which records each record replaces.

    `earlier` is [(step, id)] of the records that exist before.
    """

    exp_id, taken = 'anew', None

    def __init__(self, earlier):
        self.earlier, self.replaced = earlier, []

    def news(self):
        return []

    def begin_after(self, step):
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
