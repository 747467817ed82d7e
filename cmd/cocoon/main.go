// Command cocoon is every role of the Cocoon network in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/cocoon-network/cocoon/internal/cli"
)

// hangup turns SIGHUP from an end into a message.
func hangup() <-chan struct{} {
	sig, out := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(sig, syscall.SIGHUP)
	go func() {
		for range sig {
			out <- struct{}{}
		}
	}()
	return out
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks to stop; a second one insists.
	context.AfterFunc(ctx, stop)
	exe, _ := os.Executable()
	code := cli.Main(ctx, cli.Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(), Executable: exe, Hangup: hangup,
	})
	stop()
	os.Exit(code)
}
