//go:build tee

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// measuredFile is part of the measured spec folder (spec attestation 6.2).
const measuredFile = "/spec/cocoon.toml"

// measured replaces whatever file, flags and environment said about checks by
// what was measured.
func measured(c *Config) error {
	b, err := readSmall(measuredFile)
	if err != nil {
		return fmt.Errorf("measured configuration: %w", err)
	}
	c.Measured = Measured{}
	md, err := toml.Decode(string(b), &c.Measured)
	if err != nil {
		return fmt.Errorf("measured configuration %s: %w", measuredFile, err)
	}
	if extra := md.Undecoded(); len(extra) > 0 {
		return fmt.Errorf("measured configuration %s: unknown key %q", measuredFile, extra[0])
	}
	return nil
}

// checkMeasuredPath allows files that are part of the measured image only:
// everything else is the host's.
func checkMeasuredPath(path string) error {
	clean := filepath.Clean(path)
	for _, dir := range []string{"/usr/", "/spec/"} {
		if strings.HasPrefix(clean, dir) {
			return nil
		}
	}
	return fmt.Errorf("%q is not below /usr or /spec, which are measured", path)
}

// checkEngine allows engines inside the guest only: a host must not be able to
// point a genuine image at an engine of its own.
func checkEngine(engine string) error {
	u, err := url.Parse(engine)
	if err != nil {
		return fmt.Errorf("measured.engine: %w", err)
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.IsLoopback() || strings.HasPrefix(engine, "unix:") {
		return nil
	}
	return fmt.Errorf("measured.engine %q is not a loopback address or a Unix socket", engine)
}

// checkModelPath demands that what is served is checked.
func checkModelPath(m *Measured) error {
	if m.ModelPath == "" {
		return errors.New("measured.model_path is missing: this build serves no model whose files it did not check")
	}
	return nil
}

// checkpointKey is none: the disk is the host's, so every start proves the way
// from the measured init block.
func checkpointKey(string) ([]byte, error) { return nil, nil }
