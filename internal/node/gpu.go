package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/nvgpu"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// gpuTime bounds one run of a helper: a GPU takes a second or two to sign.
const gpuTime = 25 * time.Second

// gpus are the GPUs a worker shows evidence of; nil if it shows none.
func gpus(c *Config) (statement.GPUs, error) {
	switch path := c.Measured.GPUHelper; {
	case path == "":
		return nil, nil
	case path == string(attest.Simulated):
		return simulatedGPUs(c)
	case !filepath.IsAbs(path):
		return nil, fmt.Errorf("configuration: measured.gpu_helper %q is not an absolute path (or %q)", path, attest.Simulated)
	default:
		if err := checkMeasuredPath(path); err != nil {
			return nil, fmt.Errorf("configuration: measured.gpu_helper: %w", err)
		}
		return gpuHelper(path), nil
	}
}

// gpuHelper is a program that asks this guest's GPUs: it gets the nonce as 64
// hex digits in its only argument and writes an encoded nvgpu.Set. Talking to
// the GPU needs its vendor's library, which this program does not link.
type gpuHelper string

// errGPUHelper is the cause of every failure to collect.
var errGPUHelper = errors.New("measured.gpu_helper gives no GPU evidence")

// Collect implements statement.GPUs.
func (h gpuHelper) Collect(ctx context.Context, nonce [32]byte) (nvgpu.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, gpuTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, string(h), hex.EncodeToString(nonce[:]))
	cmd.Env = []string{} // nothing of ours is its business
	cmd.WaitDelay = time.Second
	out, words := &capped{max: nvgpu.MaxSet + 1}, &capped{max: 512}
	cmd.Stdout, cmd.Stderr = out, words
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s: %v: %q", errGPUHelper, string(h), err, bytes.TrimSpace(words.b))
	}
	set, err := nvgpu.ParseSet(out.b)
	if err == nil && len(set) == 0 {
		err = nvgpu.ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errGPUHelper, string(h), err)
	}
	return set, nil
}

// capped keeps the first max bytes and drops the rest.
type capped struct {
	b   []byte
	max int
}

func (c *capped) Write(b []byte) (int, error) {
	c.b = append(c.b, b[:min(len(b), c.max-len(c.b))]...)
	return len(b), nil
}

var _ io.Writer = (*capped)(nil)

// gpuPolicy is what GPU evidence of workers is held against; nil: none is
// demanded.
func (m *Measured) gpuPolicy() (*nvgpu.Policy, error) {
	if m.GPUPolicy == "" {
		return nil, nil
	}
	if m.MinLevel < wire.Level1 {
		return nil, errors.New("configuration: measured.gpu_policy demands GPU evidence, which comes with statements only: set measured.min_level = 1")
	}
	if err := checkMeasuredPath(m.GPUPolicy); err != nil {
		return nil, fmt.Errorf("configuration: measured.gpu_policy: %w", err)
	}
	b, err := readSmall(m.GPUPolicy)
	if err != nil {
		return nil, fmt.Errorf("configuration: measured.gpu_policy: %w", err)
	}
	p, err := nvgpu.ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("configuration: measured.gpu_policy %s: %w", m.GPUPolicy, err)
	}
	return p, nil
}
