"""`runs.py check --replay` as it is typed: it starts a process with TensorFlow."""

import pymongo
import pytest

import commands


@pytest.mark.slow
def test_a_part_of_a_training_is_trained_again(run, where, home, mongo_server):
    flags = commands.FC + ['--exp_id_suffix=_again', '--train_epochs=0.5'] + where
    done = run('train.py', *flags)
    assert done.code == 0, done.err

    def check():
        words = ['runs.py', 'check', 'symmetric_again', '--replay'] + where
        process = commands.process(words, home)
        out, err = process.communicate()
        return process.returncode, out, err

    code, out, err = check()
    assert code == 0, out + err
    assert 'nothing is wrong' in out
    assert 'of symmetric_again give the same losses and weights to the bit' in out
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        changed = client['cli']['fc_7-5.files'].update_many(
            {'exp_id': 'symmetric_again', 'train_results': {'$type': 'array'}},
            {'$inc': {'train_results.$[].model_loss': 1e-12}},
        )
    assert changed.modified_count > 1
    code, out, err = check()
    assert code == 1 and 'Traceback' not in err
    assert (
        ': model_loss is ' in out and 'is recorded.' in out and 'of symmetric_again differ' in out
    )
    assert 'was changed after it was stored' in out
