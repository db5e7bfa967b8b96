# make train   set up, train ResNet-18 with symmetric alignment on real digits, validate
# make check   what to run while you work: style, types and the fast tests
# make test    the tests of this runtime, but for those of the night
# make test-all  every test
# make report  what came out of make train, as a table and a page
# make search  settings of mirror, searched
# make noise   which rules bear noise on their updates
# make faithful  what we share with the original, in numbers
# make bench   speed, as ratios
# make faults  kill trainings and MongoDB at random, feed garbage to the readers, count what is lost or wrong
# PYTHON=python3.7 in front of either takes TensorFlow 1.13.2; Python 3.9 to 3.13 take TensorFlow 2.x.

PYTHON ?= python3
PORT ?= 29029
LOCAL ?= local
WORKERS ?= 2
SLICE ?= 0
INTERPRETER := $(shell .ci/python $(PYTHON))
ifeq ($(INTERPRETER),)
$(error no usable Python, see above)
endif
VERSION := $(shell $(INTERPRETER) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(VERSION)
DEVICE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
RUN := $(VENV)/bin/python
DATA := $(LOCAL)/mnist_tfrecords
EXPERIMENT := --load_params_file=config/quickstart.pkl --data_dir=$(DATA) --port=$(PORT) --dbname=quickstart \
	--cache_dir=$(LOCAL)/cache --exp_id_suffix=_python$(VERSION)

.PHONY: train setup check test test-all nightly-slice report rules search noise faithful faithful-here bench faults stop-mongodb clean

train: $(VENV)/ready-train config/quickstart.pkl $(DATA)/dataset.json
	$(RUN) train.py $(EXPERIMENT) --do_restore
	$(RUN) test.py validate $(EXPERIMENT) --val_exp_id=validation_python$(VERSION)

setup: $(VENV)/ready-test

check: $(VENV)/ready-test  ## while you work: style and types (where Python 3.10 or newer runs), and the fast tests
ifneq ($(VERSION),$(filter 3.7 3.9,$(VERSION)))
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check --quiet .
	$(RUN) -m mypy
endif
	$(RUN) -m pytest -q -rs -n $(WORKERS) --dist loadfile -m 'not slow and not nightly' tests $(ARGS)

test: $(VENV)/ready-test  ## before you share a change: the fast and the slow tests
	$(RUN) -m pytest -q -rs -n $(WORKERS) --dist loadfile -m 'not nightly' tests $(ARGS)

test-all: $(VENV)/ready-test  ## before a release: every test
	$(RUN) -m pytest -q -rs -n $(WORKERS) --dist loadfile tests $(ARGS)

nightly-slice: $(VENV)/ready-test  ## a twentieth of the nightly tests, that of the number SLICE, for four minutes at most
	$(RUN) -m pytest -q -rs -m nightly --slice=$(SLICE) --stop_after=240 tests $(ARGS)

report: $(VENV)/ready-train  ## what came out of make train: a table, and local/report.html
	$(RUN) report.py --port=$(PORT) --dbname=quickstart --cache_dir=$(LOCAL)/cache --html=$(LOCAL)/report.html

rules: $(VENV)/ready-train $(DATA)/dataset.json  ## one run of each rule, and their table
	$(RUN) -m experiments.rules --data_dir=$(DATA) --port=$(PORT) --cache_dir=$(LOCAL)/cache

search: $(VENV)/ready-test  ## 30 trainings, each with settings chosen by the ones before, and the best beside the default
	$(RUN) -m config.recipes mnist_fc_mirror
	$(RUN) -m experiments.search --port=$(PORT) --cache_dir=$(LOCAL)/cache

noise: $(VENV)/ready-train  ## rules under noise on the updates of backward kernels: a table, and local/noise.png
	mkdir -p $(LOCAL)
	$(RUN) -m experiments.noise --png=$(LOCAL)/noise.png --port=$(PORT) --cache_dir=$(LOCAL)/cache

faithful:  ## what we share with the original, claim by claim, on TensorFlow 1.13.2 and on this Python's
	$(MAKE) faithful-here PYTHON=python3.7
	$(MAKE) faithful-here
	$(RUN) tests/golden/faithful.py table $(LOCAL)/faithful-3.7.json $(LOCAL)/faithful-$(VERSION).json

faithful-here: $(VENV)/ready-test
	mkdir -p $(LOCAL)
	$(RUN) tests/golden/faithful.py run $(LOCAL)/faithful-$(VERSION).json

bench: $(VENV)/ready-test .venv-peers/ready  ## speed, as ratios, on TensorFlow 1.13.2 and on this Python's
	$(MAKE) .venv-3.7/ready-test PYTHON=python3.7
	$(RUN) -m benchmarks.bench --modern $(RUN) --paper .venv-3.7/bin/python --peers .venv-peers/bin/python --port=$(PORT) \
		--json=$(LOCAL)/bench.json $(ARGS)

faults: $(VENV)/ready-test  ## trainings and MongoDB are killed at random times: what is lost, what is wrong
	$(RUN) tests/faults/fuzz.py
	$(RUN) tests/faults/campaign.py $(ARGS)

.venv-peers/ready:
	$(INTERPRETER) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet torch==2.13.0 biotorch==0.0.16
	mkdir -p $(LOCAL)
	touch $@

stop-mongodb:  ## stop the private server that train.py started, if it did
	$(RUN) -m database.server stop --port $(PORT)

clean:  ## remove what these targets made; the database stays, and what was downloaded or written otherwise
	rm -rf .venv-* $(LOCAL) config/quickstart.pkl config/mnist_fc_mirror.pkl

config/quickstart.pkl: config/recipes.py config/schema.py config/params.py | $(VENV)/ready-train
	$(RUN) -m config.recipes quickstart

$(DATA)/dataset.json: | $(VENV)/ready-train
	$(RUN) -m data.build_tfrecords mnist $(DATA)

$(VENV)/ready-train: setup.py
	$(INTERPRETER) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade 'pip>=22,<27' 'setuptools>=60,<81' wheel
	$(RUN) -m pip install --quiet -e '.[$(DEVICE),mongodb,mnist,report]'
	touch $@

$(VENV)/ready-test: $(VENV)/ready-train
	$(RUN) -m pip install --quiet -e '.[$(DEVICE),mongodb,mnist,test]'
	touch $@
