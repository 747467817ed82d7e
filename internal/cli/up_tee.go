//go:build tee

package cli

import "github.com/spf13/cobra"

func (a *app) extraCommands() []*cobra.Command { return nil }
