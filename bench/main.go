// Command bench measures what the way to an inference engine costs: ours beside
// three nginx or haproxy with mutual TLS 1.3, in one run, on pinned cores, in
// rounds that take turns. Only ratios within one run count.
//
//	bench run      the measurement
//	bench soak     many requests with cancels, every answer checked
//	bench cancel   how long an engine works on for a caller who left
//	bench micro    reads `go test -bench` and prints ratios of its lines
//	bench engine   the engine alone
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/cocoon-network/cocoon/bench/engine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: bench run|soak|cancel|micro|engine [flags]")
	}
	switch args[0] {
	case "run":
		return runBench(ctx, args[1:])
	case "soak":
		return runSoak(ctx, args[1:])
	case "cancel":
		return runCancel(ctx, args[1:])
	case "micro":
		return runMicro(os.Stdin, os.Stdout)
	case "engine":
		return runEngine(ctx, args[1:])
	case "role": // started by topo
		return runRole(ctx, args[1:])
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func runEngine(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("engine", flag.ContinueOnError)
	listen := f.String("listen", "127.0.0.1:8000", "address")
	if err := f.Parse(args); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: &engine.Handler{}}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
