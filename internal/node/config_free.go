//go:build !tee

package node

// measured leaves the configuration as it was read: outside the measured
// image its owner decides.
func measured(*Config) error { return nil }

// checkEngine allows any engine address.
func checkEngine(string) error { return nil }
