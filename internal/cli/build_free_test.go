//go:build !tee

package cli

// measuredBuild says that this is the build of the measured image.
const measuredBuild = false
