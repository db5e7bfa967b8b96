"""The noise experiment: its settings, one training by the program, and the plot."""

import numpy as np
import pymongo
import pytest
from PIL import Image

from alignment.rules import RULES
from config.schema import Config
from experiments import figures, lines, noise, sweep, trained
from experiments.base import Group, Results, Run
from experiments.lines import Measured
from test_lines import line
from training import runtime
from training.choices import check, choices


@pytest.mark.parametrize('rule', sorted(noise.RULES))
@pytest.mark.parametrize('deviation', noise.NOISES)
def test_the_settings_are_those_of_the_noise(rule, deviation):
    config = Config.of(noise.settings(rule, deviation), choices())
    check(config)
    tied = RULES[rule].tie_gradients
    rate = config.learning_rate if tied else config.alignment_learning_rate
    noisy = config.use_noisy_global_opt if tied else config.use_noisy_alignment_opt
    assert noisy == (deviation > 0)
    if noisy:  # the size of the noise in a step
        assert rate * np.sqrt(config.noisy_opt_variance) == pytest.approx(0.001 * deviation)


class Forked:
    """A training as a fork, with those parts of subprocess.Popen that a Training uses."""

    def __init__(self, done):
        self.code = done.code

    def poll(self):
        return self.code

    wait = poll


@pytest.mark.nightly
def test_noise_is_felt(mongo_server, forks, tmp_path):
    """The trainings run in forks. MNIST is the fallback that needs no files and no network."""

    def launch(command, stdout, **others):
        done = forks.run(*command[1:], **{name: others['env'][name] for name in trained.THREADS})
        stdout.write((done.out + done.err).encode())
        return Forked(done)

    runs = [
        Run(
            {'noise': f'{deviation:g}'},
            Config.of(dict(noise.settings('symmetric', deviation), train_epochs=2.0), choices()),
        )
        for deviation in (0.0, 1000.0)
    ]
    where = sweep.Where(
        *('localhost', mongo_server.port, 'noise', str(tmp_path)),
        workers=1,
        threads=1,
        runtime=runtime.describe().partition(' on ')[0],
        csv=str(tmp_path / 'x.csv'),
    )
    work = sweep.Sweep('noise', runs, where, launch=launch)
    work.run()
    assert work.failures == {}
    found = lines.File(where.csv).read()
    calm, loud = [line.measured.top1 for line in found]
    assert calm > 0.6 > 0.3 > loud
    with pymongo.MongoClient('localhost', mongo_server.port) as client:
        for line in found:
            records = list(
                client['noise']['fc_100-50.files'].find(
                    {'exp_id': line.source.exp_id, 'validation_results': {'$exists': True}},
                    sort=[('step', 1)],
                )
            )
            results = [each['validation_results']['topn_val'] for each in records]
            best = max(results[1:], key=lambda each: each['top1'])
            assert [each['step'] for each in records] == [0, 80, 160]
            assert (line.measured.top1, line.measured.loss) == (
                results[-1]['top1'],
                results[-1]['loss'],
            )
            assert line.measured.best_top1 == best['top1']
            angles = list(results[-1]['weight_angles'].values())
            assert line.measured.weight_angle == pytest.approx(np.mean(angles))
            provenance = records[-1]['params']['provenance']
            assert line.source.runtime == provenance['runtime'].split(' on ')[0]
            assert (provenance['commit'] or '').startswith(line.source.commit.rstrip('+'))


def results_of(function):
    """Returns results in which the top-1 of a rule and a noise is function(rule, noise)."""
    return Results(
        [
            Group(
                {'rule': rule, 'noise': f'{deviation:g}'},
                {0: line(0)._replace(measured=Measured(step=1, top1=function(rule, deviation)))},
            )
            for rule in noise.RULES
            for deviation in noise.NOISES
        ]
    )


def test_the_table_has_a_row_for_each_rule():
    found = results_of(lambda rule, deviation: (len(rule) + deviation) / 1000)
    header, dashes, *rows = noise.Noise().table(found).splitlines()
    assert header == '| rule | 0 | 1 | 10 | 30 | 100 | 300 |' and dashes == '|---' * 7 + '|'
    assert [row.split(' | ')[0][2:] for row in rows] == list(noise.RULES)
    symmetric = [(9 + deviation) / 1000 for deviation in (0, 1, 10, 30, 100, 300)]
    assert rows[0] == f'| symmetric | {" | ".join(f"{value:.3f}" for value in symmetric)} |'


def test_the_plot(tmp_path):
    found = results_of(lambda rule, deviation: 0.9 - deviation / 500)
    noise.Noise().draw(found, str(tmp_path / 'noise.png'))
    with Image.open(str(tmp_path / 'noise.png')) as image:
        assert image.size == (825, 570)
        colours = {colour for _, colour in image.convert('RGB').getcolors(1 << 20)}
    drawn = [figures.PALETTE[index] for index in range(len(noise.RULES))]
    assert len(set(drawn)) == len(drawn)
    assert {tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in drawn} <= colours
