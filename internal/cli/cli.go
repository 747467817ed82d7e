// Package cli is the command line: it reads flags, calls node and prints.
//
// Owns: commands, output for people and programs, exit codes.
// Imports: node and what commands show.
package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/node"
)

// Env is a process's surroundings as values, so that tests can run a command.
type Env struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string
	Executable     string
	// Hangup returns what tells of SIGHUP, by which a worker reads its
	// configuration again; nil = no such signal. Where it is not called, the
	// signal ends the process as ever.
	Hangup func() <-chan struct{}
}

// Exit codes, one per class of failure.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

// Main runs a command and returns the exit code. The end of ctx stops it.
func Main(ctx context.Context, env Env) int {
	app := &app{env: env}
	root := app.root()
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	ctx = app.leash(ctx)
	called, err := root.ExecuteContextC(ctx)
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return exitOK
	}
	var usage usageError
	if errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") || strings.HasPrefix(err.Error(), "required flag") {
		fmt.Fprintf(env.Stderr, "cocoon: %v; `%s --help` shows how it is used\n", err, called.CommandPath())
		return exitUsage
	}
	var quiet quietError
	if !errors.As(err, &quiet) {
		fmt.Fprintf(env.Stderr, "cocoon: %v\n", err)
	}
	return exitFailed
}

// quietError fails a command that has said why already.
type quietError struct{ error }

// app is one run of the program.
type app struct {
	env  Env
	dir  string
	json bool
}

func (a *app) getenv(key string) string {
	for _, kv := range a.env.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v
		}
	}
	return ""
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cocoon",
		Short: "Confidential Compute Open Network: AI requests that only an attested worker can read",
		Long: `Cocoon sends AI requests through attested machines: nobody who owns a machine
on the way can read a prompt or an answer, and anyone can check that.

Start here:  cocoon up        the whole network on this machine, simulated
             cocoon chat      talk to it`,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // they take lines of their own; the help lists all
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&a.dir, "dir", node.DefaultDir(a.getenv), "folder of the network on this machine")
	root.AddCommand(
		a.roleCommand("client", "The client: an OpenAI-compatible endpoint beside an app"),
		a.roleCommand("proxy", "A proxy: picks workers and keeps the accounts"),
		a.roleCommand("worker", "A worker: runs a model on an engine"),
		a.chatCommand(), a.modelsCommand(), a.workersCommand(), a.statusCommand(), a.doctorCommand(), a.verifyCommand(), a.receiptCommand(), a.auditCommand(),
		a.walletCommand(), a.channelCommand(), a.rootContractCommand(), a.measureCommand(), a.engineCommand(), a.versionCommand(),
	)
	root.AddCommand(a.extraCommands()...)
	for _, c := range root.Commands() {
		if c.Args == nil {
			c.Args = noArgs
		}
	}
	return root
}

// noArgs refuses arguments in words that help.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// jsonFlag gives a command --json.
func (a *app) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print one JSON object")
	return cmd
}

// printJSON writes v for programs.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.env.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// progress writes a line for people.
func (a *app) progress(format string, args ...any) {
	fmt.Fprintf(a.env.Stderr, "cocoon: "+format+"\n", args...)
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (a *app) versionCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:     "version",
		Short:   "The version of this program",
		Example: "  cocoon version --json",
		RunE: func(*cobra.Command, []string) error {
			v := Version()
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.env.Stdout, "cocoon %s (%s, %s)\n", v.Version, v.Revision, v.Go)
			return nil
		},
	})
}

// VersionInfo names a build.
type VersionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Tags     string `json:"tags"`
}

// Version reads what the Go tool recorded in this program.
func Version() VersionInfo {
	v := VersionInfo{Version: "devel", Revision: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "-tags":
			v.Tags = s.Value
		}
	}
	return v
}

// leash ends ctx when standard input ends: children of `up` are held by it.
func (a *app) leash(ctx context.Context) context.Context {
	if a.getenv(node.LeashVariable) == "" {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, bufio.NewReader(a.env.Stdin))
		cancel()
	}()
	return ctx
}

func (a *app) roleCommand(role, short string) *cobra.Command {
	var config, reference string
	var print bool
	cmd := &cobra.Command{
		Use:     role,
		Short:   short,
		Example: fmt.Sprintf("  cocoon %s --config %s.toml\n  cocoon %s --print-config", role, role, role),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c *node.Config
			var err error
			if config != "" && reference != "" {
				return usageError{errors.New("--config and --reference-config: only one of them can be read")}
			}
			if config == "" && reference == "" && !print {
				return usageError{errors.New("no configuration: name a file with --config")}
			}
			if reference != "" {
				c, err = node.LoadReference(role, reference, a.env.Environ)
			} else {
				c, err = node.Load(role, config, a.env.Environ)
			}
			if err != nil {
				return err
			}
			if print {
				return c.Write(a.env.Stdout)
			}
			log, err := c.Runtime.Logger(a.env.Stderr)
			if err != nil {
				return err
			}
			ls, err := node.InheritListeners(a.getenv)
			if err != nil {
				return err
			}
			if c.Measured.Evidence == "simulated" || c.Measured.Accepts("simulated") {
				log = log.With("network", "SIMULATED")
			}
			if role == "worker" && a.env.Hangup != nil {
				c.Reload = a.env.Hangup()
			}
			return node.Run(cmd.Context(), c, ls, log.With("role", role))
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration file (TOML)")
	cmd.Flags().StringVar(&reference, "reference-config", "", "configuration file of the C++ implementation (JSON)")
	cmd.Flags().BoolVar(&print, "print-config", false, "print the configuration and stop")
	return cmd
}
