package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/cocoon-network/cocoon/bench/topo"
	"github.com/cocoon-network/cocoon/internal/node"
)

// runRole runs one of our roles inside this program, for what the product does
// not offer: a profile of its processor time and allocations, and a proxy that
// speaks the reference protocol to peers of ours.
func runRole(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("role", flag.ContinueOnError)
	role := f.String("role", "", "client, proxy or worker")
	config := f.String("config", "", "its configuration")
	profile := f.String("profile", "", "directory for profiles")
	name := f.String("name", "role", "name of the profiles")
	level0 := f.Bool("level0", false, "speak the reference protocol only (proxy)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *role == "" || *config == "" {
		return errors.New("role: -role and -config are required")
	}
	c, err := node.Load(*role, *config, nil)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if *profile != "" {
		stop, err := startProfile(filepath.Join(*profile, *name))
		if err != nil {
			return err
		}
		defer stop()
	}
	if *level0 {
		if *role != "proxy" {
			return errors.New("role: only the proxy, who accepts, decides the level")
		}
		return topo.RunLevel0Proxy(ctx, c, log)
	}
	ls, err := node.InheritListeners(func(string) string { return "" })
	if err != nil {
		return err
	}
	return node.Run(ctx, c, ls, log)
}

// startProfile profiles until the returned function is called.
func startProfile(path string) (stop func(), err error) {
	cpu, err := os.Create(path + ".cpu")
	if err != nil {
		return nil, err
	}
	// The start of a role, proof of work and keys, is left out.
	timer := time.AfterFunc(2*time.Second, func() { _ = pprof.StartCPUProfile(cpu) })
	return func() {
		timer.Stop()
		pprof.StopCPUProfile()
		cpu.Close()
		heap, err := os.Create(path + ".allocs")
		if err == nil {
			err = errors.Join(pprof.Lookup("allocs").WriteTo(heap, 0), heap.Close())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
	}, nil
}
