# make test    everything, installing what it needs
# make check   what CI runs beside the tests: format, vet, static analysis
# make fuzz    each fuzz target for FUZZTIME (default 20s)
# make bench   benchmarks, ratios side by side in one run
FUZZTIME ?= 20s
GO ?= go

.PHONY: test check fuzz bench build

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
