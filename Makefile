# The two commands of the README are `make demo` and `make test`. Each sets up what is missing by pinned version and
# SHA-256 (ffmpeg, ONNX Runtime, model weights) and is quiet and quick the second time.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ROTOLESS_MODELS ?= $(CURDIR)/models
CARGO_TARGET_DIR ?= $(CURDIR)/target
export ROTOLESS_MODELS CARGO_TARGET_DIR
export PATH := $(CURDIR)/.cache/ffmpeg/bin:$(PATH)
# `make bench PROFILE=release` measures what one would install; its build takes long.
PROFILE ?= dev
ROTOLESS := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/rotoless

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the programs, in the development profile unless PROFILE=release
	@cargo build --locked --quiet --package rotoless --profile $(PROFILE)

# Fetching waits for the network and building for the processor: side by side they take the longer of the two.
setup: ## everything the demo and the tests need
	@scripts/setup-ffmpeg & ffmpeg=$$!; \
	cargo build --locked --quiet --package rotoless --profile $(PROFILE) || { kill $$ffmpeg 2>/dev/null; exit 1; }; \
	wait $$ffmpeg
	@$(ROTOLESS) models fetch --models $(ROTOLESS_MODELS) --quiet light human

demo: setup ## a real clip through the whole service; the last line names the result
	@python3 demo/demo.py --rotoless $(ROTOLESS)

test: setup ## every test
	@$(ROTOLESS) models fetch --models $(ROTOLESS_MODELS) --quiet
	@scripts/fetch-dynamodb-local
	@scripts/setup-python
	@gpu-handler/lambda/package $$(uname -m | sed s/aarch64/arm64/)
	@scripts/test

test-gpu: setup ## the engine's tests of devices with the GPU's features built in; a GPU is used where there is one
	@cargo test --locked --quiet --package rotoless-matting --features tensorrt -- session:: group_tests:: device:: devices::

test-upgrade: setup ## the functions of FROM=tag and of this tree serve twenty jobs together
	@test -n "$(FROM)" || { echo "make test-upgrade FROM=tag" >&2; exit 2; }
	@rm -rf target/before/tree && git worktree prune && git worktree add --quiet --detach target/before/tree $(FROM)
	@cd target/before/tree && CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/before cargo build --locked --quiet --workspace \
		--bin rotoless-api --bin rotoless-callback --bin rotoless-deliver --bin rotoless-sweep
	@git worktree remove --force target/before/tree
	@cargo build --locked --quiet --workspace --bins --tests
	@ROTOLESS_BEFORE=$(CARGO_TARGET_DIR)/before/debug \
		cargo test --locked --quiet --package rotoless-tests --test it lambda::upgrade:: -- --ignored --nocapture

test-container: ## the worker's image, built and run with podman as root (DEVICE=cpu or cuda); long
	@scripts/try-container $(or $(DEVICE),cpu) $(if $(PLACE),--place $(PLACE) --keep)

test-soak: setup ## kills and freezes under load for MINUTES=60, in the order of SEED=; the default suite has a small dose
	@cargo build --locked --quiet --workspace --bins --tests
	@MINUTES=$(or $(MINUTES),60) $(if $(SEED),SEED=$(SEED)) \
		cargo test --locked --quiet --package rotoless-tests --test it faults::soak:: -- --ignored --nocapture

test-runpod: setup ## two hundred jobs, from no worker to eight and back, at a RunPod of our own; and SEEDS=5000 virtual days of faults
	@cargo build --locked --quiet --workspace --bins --tests
	@cargo test --locked --quiet --package rotoless-tests --test it two_hundred_jobs -- --ignored --nocapture
	@SEEDS=$(or $(SEEDS),5000) $(if $(SEED),SEED=$(SEED)) \
		cargo test --locked --quiet --package rotoless-tests --test it runpod::schedules:: -- --nocapture

fuzz-api: setup ## made-up requests against the live service, for long (EXAMPLES=500 SEED=1)
	@scripts/setup-python
	@cargo build --locked --quiet --workspace --bins --tests
	@ROTOLESS_FUZZ_EXAMPLES=$(or $(EXAMPLES),500) ROTOLESS_FUZZ_SEED=$(or $(SEED),1) \
		cargo test --locked --quiet --package rotoless-tests --test it fuzz:: -- --nocapture

fuzz: ## the parsers of media under libFuzzer, for long (TARGET=container FUZZ_SECONDS=600)
	@mkdir -p target/fuzz/corpus/$(or $(TARGET),container)
	@RUSTFLAGS='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1' \
		CARGO_TARGET_DIR=target/fuzz cargo run --locked --quiet --release --manifest-path fuzz/Cargo.toml --target $$(rustc -vV | sed -n 's/^host: //p') -- \
		target/fuzz/corpus/$(or $(TARGET),container) fuzz/seeds/$(or $(TARGET),container) \
		-max_total_time=$(or $(FUZZ_SECONDS),600) -rss_limit_mb=512 -timeout=5 -artifact_prefix=target/fuzz/

bench: setup ## the pipeline beside its floor and a Python loop, the API beside its calls of AWS; PROFILE=release CLIPS=dir
	@scripts/setup-python bench
	@$(ROTOLESS) models fetch --models $(ROTOLESS_MODELS) --quiet rvm-plain u2netp-plain
	@$(ROTOLESS) bench --all --clip samples/portrait.mp4 --peer .cache/python-bench/bin/python \
		$(if $(CLIPS),--clips $(CLIPS)) --json target/bench.json
	@$(ROTOLESS) bench --api --clip samples/portrait.mp4 --model human --json target/bench-api.json
	@$(MAKE) bench-lambda

FUNCTIONS := rotoless-api rotoless-callback rotoless-deliver rotoless-sweep rotoless-worker-function

.PHONY: bench-lambda
bench-lambda: setup ## the functions under the Lambda Runtime API: zip, start, memory, time of a request; PROFILE=release
	@cargo build --locked --quiet --profile $(PROFILE) $(FUNCTIONS:%=--package %)
	@ROTOLESS_FUNCTIONS=$(dir $(ROTOLESS)) ROTOLESS_BENCH_JSON=target/bench-lambda.json \
		cargo test --locked --quiet --package rotoless-tests --test it lambda::bench:: -- --ignored --nocapture

bench-quality: setup ## mattes beside the truth on clips of CLIPS=dir (NAME.mp4 with NAME.alpha.mkv); SHEETS=dir, WITHOUT=edges,steady
	@$(ROTOLESS) models fetch --models $(ROTOLESS_MODELS) --quiet
	@$(ROTOLESS) bench quality --clips $(CLIPS) $(if $(FRAMES),--frames $(FRAMES)) $(if $(WITHOUT),--without $(WITHOUT)) \
		--sheets $(or $(SHEETS),target/quality) --json target/bench-quality.json

openapi: ## docs/openapi.json made anew from the code
	@UPDATE_OPENAPI=1 cargo test --locked --quiet --package rotoless-api --test it document::the_committed

package: ## what `sam deploy` uploads: the functions for arm64, the worker with ffmpeg and models
	@scripts/setup-python deploy & scripts/setup-python build; wait $$!
	@PATH="$(CURDIR)/.cache/python-build/bin:$(CURDIR)/.cache/python-deploy/bin:$$PATH" SAM_CLI_TELEMETRY=0 sam build

lint: ## formatting, lints, documentation, the template and the workflows
	@scripts/setup-python deploy
	@scripts/lint-deployment
	@cargo fmt --all --check
	@cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
	@cargo clippy --locked --quiet --workspace --all-targets --features rotoless/tensorrt,rotoless-gpu-handler/tensorrt -- -D warnings
	@RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --locked --quiet --workspace --no-deps --document-private-items

.PHONY: help build setup demo test test-gpu test-upgrade test-container test-soak test-runpod bench bench-quality openapi fuzz fuzz-api package lint
