// Command collect asks the NVIDIA GPUs of this guest for attestation evidence
// and writes it for `cocoon` (measured.gpu_helper): an encoded nvgpu.Set.
//
//	CGO_ENABLED=1 go build -tags nvml -o /usr/lib/cocoon/gpu-evidence .
//	gpu-evidence 00…00             the evidence that answers this nonce
//	gpu-evidence -pin > gpu.json   a policy that accepts what this machine shows
//
// It is a module and a program of its own because it needs cgo and loads the
// driver's libnvidia-ml.so.1 when it runs; cocoon itself stays pure Go. Without
// the build tag nvml it says so and fails.
//
// Owns: nothing; one run, one answer.
// Imports: nvgpu for the form of evidence.
// Trust: part of the measured image; the driver's answers are bounded here and
// verified by others.
// Concurrency: none.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cocoon-network/cocoon/attest/nvgpu"
)

// device is one GPU.
type device interface {
	// report is the measurements exchange with the nonce, chain the device's
	// certificates in PEM, its own first.
	report(nonce [32]byte) ([]byte, error)
	chain() ([]byte, error)
}

func main() {
	if err := run(os.Args[1:], open, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gpu-evidence:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: gpu-evidence NONCE (64 hex digits) | gpu-evidence -pin")

// run answers one call. open lists the GPUs; close ends with them.
func run(args []string, open func() (all []device, close func(), err error), out io.Writer) error {
	if len(args) != 1 {
		return errUsage
	}
	var nonce [32]byte
	pin := args[0] == "-pin"
	if pin {
		rand.Read(nonce[:])
	} else if b, err := hex.DecodeString(args[0]); err != nil || len(b) != len(nonce) {
		return errUsage
	} else {
		nonce = [32]byte(b)
	}
	devices, end, err := open()
	if err != nil {
		return err
	}
	defer end()
	set, err := collect(devices, nonce)
	if err != nil {
		return err
	}
	b := set.Encode()
	if pin {
		p, err := nvgpu.Pin(set, nonce, time.Now())
		if err != nil {
			return err
		}
		if b, err = p.Encode(); err != nil {
			return err
		}
	}
	_, err = out.Write(b)
	return err
}

func collect(devices []device, nonce [32]byte) (nvgpu.Set, error) {
	var set nvgpu.Set
	for i, d := range devices {
		report, err := d.report(nonce)
		if err != nil {
			return nil, fmt.Errorf("GPU %d: report: %w", i+1, err)
		}
		// What others would refuse for its form is better refused here.
		parsed, err := nvgpu.ParseReport(report)
		if err != nil {
			return nil, fmt.Errorf("GPU %d: %w", i+1, err)
		}
		if parsed.Nonce != nonce {
			return nil, fmt.Errorf("GPU %d: %w", i+1, nvgpu.ErrNonce)
		}
		chain, err := d.chain()
		if err != nil {
			return nil, fmt.Errorf("GPU %d: certificates: %w", i+1, err)
		}
		set = append(set, nvgpu.Evidence{Report: report, Chain: chain})
	}
	if len(set) == 0 {
		return nil, nvgpu.ErrNone
	}
	_, err := nvgpu.ParseSet(set.Encode())
	return set, err
}
