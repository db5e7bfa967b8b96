"""The noise experiment: its settings, one training by the program, and the plot."""

import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from alignment.rules import RULES
from experiments import noise, trained
from config.schema import Config
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


@pytest.mark.slow
def test_noise_is_felt(mongo_server, forks, tmp_path, monkeypatch):
    """The trainings run in forks. MNIST is the fallback that needs no files and no network."""

    def run(command, stdout, **as_they_are):
        assert (command[0], stdout) == (sys.executable, subprocess.DEVNULL)
        assert as_they_are == dict(cwd=trained.ROOT, check=True)
        done = forks.run(*command[1:])
        assert done.code == 0, done.err

    starting = types.SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(trained, 'subprocess', starting)
    flags = [f'--cache_dir={tmp_path}']
    calm, loud = [
        noise.top1('symmetric', deviation, mongo_server.port, flags, train_epochs=2.0)
        for deviation in (0.0, 1000.0)
    ]
    assert calm > 0.6 > 0.3 > loud


def test_the_plot(tmp_path):
    noise.draw(
        {rule: np.linspace(0.9, 0.1, len(noise.NOISES)) for rule in noise.RULES},
        str(tmp_path / 'noise.png'),
    )
    with Image.open(str(tmp_path / 'noise.png')) as image:
        assert image.size == (825, 570)
        colours = {colour for _, colour in image.convert('RGB').getcolors(1 << 20)}
    from reports import plots

    assert {
        tuple(int(round(255 * part)) for part in plots.FEW(index)[:3])
        for index in range(len(noise.RULES))
    } <= colours
