# make test    everything, installing what it needs
# make check   what CI runs beside the tests: format, vet, static analysis
# make fuzz    each fuzz target for FUZZTIME (default 20s)
# make bench   benchmarks, ratios side by side in one run, short form;
#              make bench-full takes a quiet machine and half an hour
# make soak-short  two minutes of load while processes are killed, half a one of overload; make soak
#              20,000 requests; SEED=n gives another order of kills
FUZZTIME ?= 20s
GO ?= go

.PHONY: test check fuzz soak soak-short bench bench-full build

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

soak-short:
	cd e2e && COCOON_SOAK=2m COCOON_SOAK_SEED=$(SEED) $(GO) test ./up -run 'TestChaos$$|TestOverload' -count=1 -v -timeout 20m

soak:
	cd e2e && COCOON_SOAK=20000 COCOON_SOAK_SEED=$(SEED) $(GO) test ./up -run 'TestChaos$$|TestOverload' -count=1 -v -timeout 4h
