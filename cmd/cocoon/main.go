// Command cocoon is every role of the Cocoon network in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/cocoon-network/cocoon/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks to stop; a second one insists.
	context.AfterFunc(ctx, stop)
	exe, _ := os.Executable()
	code := cli.Main(ctx, cli.Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(), Executable: exe,
	})
	stop()
	os.Exit(code)
}
