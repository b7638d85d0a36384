# make demo: the whole pipeline on embedded images. make test: every check. Both set up .venv by themselves.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo demo-test test test-fast fuzz soak image image-test bench bench-short lint schema dvc fingerprint locks locks-check clean

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export OMP_NUM_THREADS := 1
# DVC reports its use to its maker unless told not to.
export DVC_NO_ANALYTICS := 1
PYTHON ?= python3

demo: .venv/.scfs
	@echo "demo: data, SCFS and DINO side by side, evaluations, detectors, report (up to 25 minutes on 2 cores)"
	@snakemake --cores 2 --quiet host rules
	@scfs summary

PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10

test: lint
	$(PYTEST)
	python tests/fuzz --inputs 200
	@$(MAKE) --silent bench-short

# Without what needs the demo's results, software that is not everywhere, or many processes.
test-fast: .venv/.dev
	$(PYTEST) -m "not (demo or detectron2 or slurm or container or end_to_end)"

# The demo as `make demo` runs it, and what must hold of its numbers; `make test` runs a shorter one.
demo-test: .venv/.dev
	SCFS_WHOLE_DEMO=1 pytest -m demo

# 5,000 damaged and odd studies, images, tables, annotations, manifests, archives and weights: each taken or refused in one line (20 minutes).
fuzz: .venv/.dev
	python tests/fuzz $(ARGUMENTS)

# Each fault of a cluster SCFS_SOAK times, SIGKILL at that many moments of each of five commands, and the demo's
# pre-training (hours; goes on where it was stopped); what happened is appended to soak.jsonl.
soak: .venv/.dev
	SCFS_SOAK=$${SCFS_SOAK:-20} SCFS_SOAK_TABLE=$(CURDIR)/soak.jsonl pytest -q tests/test_kills.py tests/slurm/test_slurm_faults.py tests/slurm/test_slurm_demo.py

# The image of docker/Dockerfile, and Apptainer's of it. BASE_IMAGE=... names the base, $$(docker/base.sh) makes one.
image:
	docker/build.sh
	docker/convert.sh

# The full image, twice, and what runs in it: an hour. docs/containers.md
image-test: .venv/.dev
	SCFS_IMAGE_TEST=1 pytest -q tests/containers

lint: .venv/.dev
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy
	lint-imports --no-cache --no-logo
	python tools/count_lines.py scfs --limit 16000
	shellcheck $$(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
	hadolint docker/Dockerfile
	$(MAKE) --silent locks-check

# JSON schema of params.yaml and the noted defaults, after a change of the configuration classes.
schema: .venv/.scfs
	scfs schema > .schema.tmp && mv .schema.tmp workflow/schemas/params.schema.json
	python tests/config/recorded_defaults.py

# dvc.yaml of every study, after a change of a study or of the stages.
dvc: .venv/.scfs
	for study in params.yaml config/*/params.yaml; do scfs --params $$study dvc-file; done

# What the training's float64 steps compute, after a change of behaviour and of STAGE_VERSIONS["pretrain"].
fingerprint: .venv/.dev
	SCFS_WRITE_FINGERPRINT=1 pytest -q tests/test_fingerprint.py

# Ours beside the authors' formulation, on one thread (minutes, on a quiet machine); fails if a floor of this processor
# is missed. The short form takes a minute or two, is held to nothing and not kept. A GPU: ARGUMENTS="--device cuda".
bench: .venv/.scfs
	python -m benchmarks $(ARGUMENTS)
bench-short: .venv/.scfs
	python -m benchmarks --short $(ARGUMENTS)

# What the demo makes: data, state, results. Not .venv.
clean:
	rm -rf data runs checkpoints weights/demo-* logs .snakemake results/runs results/studies

# --- the environment ---------------------------------------------------------------------------------------------------
# Hashes are checked for all that is installed. Without build isolation, since pip would fetch the builders unhashed.
INSTALL := python -m pip install --disable-pip-version-check --no-build-isolation --no-deps
# Of what pip says: one line for each large file, and what comes after.
SHOW := awk '/\([0-9][0-9]+[.0-9]* MB\)/ {print "  " $$1, $$2} /^(Building|Installing)/ {print "  " substr($$0, 1, 60)} {fflush()}'

.venv/.runtime: envs/build.txt envs/runtime.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "scfs needs Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null || { echo "$(PYTHON) cannot make environments: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up .venv from envs/runtime.txt: about 6 GB, some minutes"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --quiet --require-hashes -r envs/build.txt
	@$(INSTALL) --require-hashes -r envs/runtime.txt | $(SHOW)
	@touch $@

# Detectron2 0.6 as PyPI has it, without its C++ operators; or another build: make DETECTRON2=git+https://... (any
# source that pip takes; the compiler is then yours to have).
DETECTRON2 ?=
.venv/.detectron2: .venv/.runtime envs/detectron2.txt $(wildcard envs/detectron2_build/torch/*.py)
ifeq ($(DETECTRON2),)
	@PYTHONPATH=$(CURDIR)/envs/detectron2_build $(INSTALL) --quiet --no-binary pb1-detectron2 --require-hashes -r envs/detectron2.txt
else
	@python -m pip uninstall --quiet --yes pb1-detectron2
	@$(INSTALL) "$(DETECTRON2)"
endif
	@touch $@

.venv/.scfs: .venv/.detectron2 pyproject.toml
	@$(INSTALL) --quiet --editable .
	@touch $@

.venv/.dev: .venv/.scfs envs/dev.txt
	@echo "adding the tools of envs/dev.txt to .venv"
	@$(INSTALL) --require-hashes -r envs/dev.txt | $(SHOW)
	@touch $@

# After a change of the dependencies in pyproject.toml. LOCK_FLAGS=--upgrade takes the newest versions of everything.
LOCK = uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 $(LOCK_FLAGS)
LOCKS ?= envs
locks: .venv/.dev
	$(LOCK) pyproject.toml -o $(LOCKS)/runtime.txt
	$(LOCK) pyproject.toml --extra dev -c $(LOCKS)/runtime.txt -o $(LOCKS)/dev.txt
	$(LOCK) pyproject.toml --overrides envs/slim.overrides -c $(LOCKS)/runtime.txt -o $(LOCKS)/slim.txt
	$(LOCK) envs/sbom.in -o $(LOCKS)/sbom.txt
	printf 'setuptools\nwheel\n' | $(LOCK) - -c $(LOCKS)/runtime.txt -o $(LOCKS)/build.txt

# Whether the locks are those of pyproject.toml: made again from themselves, nothing changes.
locks-check: .venv/.dev
	@locks=$$(mktemp -d) && trap 'rm -rf '$$locks EXIT && cp envs/*.txt $$locks && $(MAKE) --silent locks LOCKS=$$locks > /dev/null && \
		diff --recursive --brief --exclude detectron2_build --exclude '*.*[!t]' envs $$locks || { echo "envs: stale locks: make locks" >&2; exit 1; }
