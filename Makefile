# make test    everything, installing what it needs
# make check   what CI runs beside the tests: format, vet, static analysis
# make fuzz    each fuzz target for FUZZTIME (default 20s)
# make bench   benchmarks, ratios side by side in one run, short form;
#              make bench-full takes a quiet machine and half an hour
FUZZTIME ?= 20s
GO ?= go

.PHONY: test check fuzz bench bench-full build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/cocoon ./cmd/cocoon

test:
	./tools/test.sh

check:
	./tools/check.sh

fuzz:
	./tools/fuzz.sh $(FUZZTIME)

bench:
	./tools/bench.sh

bench-full:
	./tools/bench.sh full
