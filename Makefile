# make demo [DATA=folder] [RUN=folder]   the whole road on a small corpus; a table and RUN/report.html
# make ablation [RUN=folder]             every objective with three reference models, three seeds; a table and a plot
# make quick                             ruff and the tests that need no training: under a minute
# make types                             mypy
# make test                              ruff, mypy, then pytest
# make slow                              kills of every job, at chosen and random moments: about half an hour
# make fuzz [CASES=N]                    damaged files and command lines; N cases a fuzzer, 10000 unless said
# make parity                            against torch and `transformers serve` (python 3.11: installs a CPU torch)
# make seqio                             rows as seqio Tasks (installs TensorFlow into .venv-seqio, 3.2 GB)
# make clean                             removes .venv, .venv-seqio and runs/demo
PYTHON ?= python3
RUN ?= runs/demo
DATA ?=
CASES ?= 10000

VENV = .venv/bin/python
SEQIO = .venv-seqio/bin/python
PIP = -m pip install --quiet --disable-pip-version-check

QUICK = imports config docs package benchmarks hf rows data losses clean language words signatures components calibration \
        hosts metrics paired runtime loss_ratio overlap hlo

.PHONY: demo ablation quick ruff types test slow fuzz parity seqio clean
demo: .venv/installed
	$(VENV) -m demo.run --run="$(RUN)" $(if $(DATA),--data="$(DATA)")

ablation: .venv/installed
	$(VENV) -m ablation.run --run="$(if $(filter file,$(origin RUN)),runs/ablation,$(RUN))"

quick: ruff
	$(VENV) -m pytest -n 2 --dist loadfile $(addprefix tests/test_,$(QUICK:=.py))

test: ruff types
	$(VENV) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: .venv/installed-dev
	$(VENV) -m pytest -m slow

fuzz: .venv/installed-dev
	$(VENV) -m tests.fuzz --cases=$(CASES)

ruff: .venv/installed-dev
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .

types: .venv/installed-dev
	$(VENV) -m mypy

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "error: python 3.11 to 3.13 is needed, $(PYTHON) is " + sys.version.split()[0] + "; try PYTHON=python3.12 make ...")'
	$(PYTHON) -m venv --clear .venv
	$(VENV) $(PIP) -e .
	touch $@

.venv/installed-dev: .venv/installed requirements-eval.txt requirements-dev.txt
	$(VENV) $(PIP) -r requirements-eval.txt -r requirements-dev.txt
	touch $@

parity: .venv/installed-parity
	$(VENV) -m pytest -n 2 --dist loadfile tests/test_parity.py tests/test_parity_harness.py tests/test_serving.py tests/test_convert.py

.venv/installed-parity: .venv/installed-dev requirements-parity.txt
	$(VENV) $(PIP) -r requirements-parity.txt
	touch $@

seqio: .venv/installed-dev .venv-seqio/installed
	MUCPT_SEQIO_PYTHON=$(SEQIO) $(VENV) -m pytest tests/test_seqio.py

.venv-seqio/installed: requirements-seqio.txt
	$(PYTHON) -m venv --clear .venv-seqio
	$(SEQIO) $(PIP) -r requirements-seqio.txt
	touch $@

clean:
	rm -rf .venv .venv-seqio runs/demo build *.egg-info
