//go:build !tee

package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/team"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/node"
)

// keyFlags say which store of keys is meant.
type keyFlags struct{ config string }

// keyStore opens the store of a client's API keys.
func (a *app) keyStore(ctx context.Context, f *keyFlags) (*team.Store, error) {
	path := f.config
	if path == "" {
		path = filepath.Join(a.dir, "client.toml")
	}
	c, err := node.Load("client", path, a.env.Environ)
	if err != nil {
		if f.config == "" {
			return nil, fmt.Errorf("%w; name a client's configuration with --config, or a network's folder with --dir", err)
		}
		return nil, err
	}
	location, err := c.KeyStore()
	if err != nil {
		return nil, err
	}
	if !c.Runtime.RequireKeys {
		a.progress("this gateway does not ask for keys: set runtime.require_keys (cocoon up --keys)")
	}
	return team.Open(ctx, location)
}

func (a *app) keyCommand() *cobra.Command {
	f := &keyFlags{}
	cmd := &cobra.Command{
		Use:   "key",
		Short: "API keys of a gateway: create, list, set, disable",
		Long: `API keys tell the callers of a gateway apart, each with a budget a day, rates and
the models it may use. The gateway asks for them where its configuration has
runtime.require_keys, as after cocoon up --keys. Only hashes are stored, in a file
or in PostgreSQL (runtime.key_store), which several gateways may share: a key is
shown once, when it is made.`,
		Example: "  cocoon key create --name alice --budget 0.5 --per-minute 60\n  cocoon key list\n  cocoon key set alice --budget 2 --models cocoon-demo-1\n  cocoon key disable alice",
	}
	a.group(cmd)
	cmd.PersistentFlags().StringVar(&f.config, "config", "", "configuration file of the client; without it, that of the network in --dir")
	cmd.AddCommand(a.keyCreateCommand(f), a.keyListCommand(f), a.keySetCommand(f), a.keyDisableCommand(f, "disable", true), a.keyDisableCommand(f, "enable", false))
	return cmd
}

// limitFlags are what a key may do, as flags.
type limitFlags struct {
	budget                string
	perMinute, concurrent int64
	models                []string
}

func (l *limitFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.budget, "budget", "", "the most, in GRAM, that its calls may cost a UTC day; none = no limit")
	cmd.Flags().Int64Var(&l.perMinute, "per-minute", 0, "the most calls that may begin in a minute; 0 = no limit")
	cmd.Flags().Int64Var(&l.concurrent, "concurrent", 0, "the most calls at one time; 0 = no limit")
	cmd.Flags().StringSliceVar(&l.models, "models", nil, "the models it may use, by base name, with commas; none given = all")
}

// apply takes over the flags that were given.
func (l *limitFlags) apply(cmd *cobra.Command, to *team.Limits) error {
	if cmd.Flags().Changed("budget") {
		to.Budget = nil
		if l.budget != "none" {
			n, err := coins.Parse(l.budget)
			if err != nil {
				return usageError{fmt.Errorf("--budget %q is neither an amount such as 0.5 nor none", l.budget)}
			}
			to.Budget = &n
		}
	}
	if cmd.Flags().Changed("per-minute") {
		to.PerMinute = l.perMinute
	}
	if cmd.Flags().Changed("concurrent") {
		to.Concurrent = l.concurrent
	}
	if cmd.Flags().Changed("models") {
		to.Models = nil
		for _, m := range l.models {
			if m != "" {
				to.Models = append(to.Models, m)
			}
		}
	}
	return nil
}

// ownKey is the API key of a program that runs beside the network in --dir, if
// its gateway asks for keys: made in the gateway's store under the program's
// name and kept in DIR/keys, mode 0600. It is empty where none is wanted.
func (a *app) ownKey(ctx context.Context, name string) (string, error) {
	c, err := node.Load("client", filepath.Join(a.dir, "client.toml"), a.env.Environ)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // not a network of ours: whoever runs it says what it wants
	}
	if err != nil {
		return "", err
	}
	if !c.Runtime.RequireKeys {
		return "", nil
	}
	location, err := c.KeyStore()
	if err != nil {
		return "", err
	}
	s, err := team.Open(ctx, location)
	if err != nil {
		return "", err
	}
	defer s.Close()
	path := filepath.Join(a.dir, "keys", name+".key")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if secret := strings.TrimSpace(string(b)); secret != "" {
		k, err := s.Key(ctx, sha256.Sum256([]byte(secret)))
		switch {
		case err == nil && k.Disabled:
			return "", fmt.Errorf("the API key %q in %s is disabled: `cocoon key enable %s`", k.Name, path, k.Name)
		case err == nil:
			return secret, nil
		case !errors.Is(err, api.ErrNoKey):
			return "", err
		}
	}
	// A name whose secret was lost stays taken.
	all, err := s.Keys(ctx)
	if err != nil {
		return "", err
	}
	free := name
	for n := 2; slices.ContainsFunc(all, func(k *api.Key) bool { return k.Name == free }); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	secret, _, err := s.Create(ctx, free, team.Limits{})
	if err != nil {
		return "", err
	}
	if err := writeSecret(path, secret); err != nil {
		return "", fmt.Errorf("the API key %q cannot be kept: %w", free, err)
	}
	a.progress("made the API key %q for it, kept in %s; `cocoon usage` shows what it uses, `cocoon key set %s --budget` bounds it", free, path, free)
	return secret, nil
}

// writeSecret writes a line that only its owner may read, whole or not at all.
func writeSecret(path, secret string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.WriteString(secret + "\n")
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

func (a *app) keyCreateCommand(f *keyFlags) *cobra.Command {
	var name string
	l := &limitFlags{}
	cmd := a.jsonFlag(&cobra.Command{
		Use: "create", Short: "Make a key and show it, once", Args: noArgs,
		Example: "  cocoon key create --name alice --budget 0.5 --per-minute 60\n  export OPENAI_API_KEY=$(cocoon key create --name ci --json | jq -r .secret)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var limits team.Limits
			if err := l.apply(cmd, &limits); err != nil {
				return err
			}
			s, err := a.keyStore(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer s.Close()
			secret, k, err := s.Create(cmd.Context(), name, limits)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Secret string `json:"secret"`
					*api.Key
				}{secret, k})
			}
			fmt.Fprintln(a.env.Stdout, secret)
			a.progress("this is the key of %q; it is not stored and not shown again. Send it as 'Authorization: Bearer KEY' (OPENAI_API_KEY)", k.Name)
			return nil
		},
	})
	cmd.Flags().StringVar(&name, "name", "", "whose key it is")
	if err := cmd.MarkFlagRequired("name"); err != nil {
		panic(err) // the flag stands one line above
	}
	l.add(cmd)
	return cmd
}

func (a *app) keyListCommand(f *keyFlags) *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "list", Short: "All keys, with what they may do and used today", Args: noArgs,
		Example: "  cocoon key list\n  cocoon key list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.keyStore(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer s.Close()
			keys, err := s.Keys(cmd.Context())
			if err != nil {
				return err
			}
			all := []*api.Usage{}
			for _, k := range keys {
				u, err := s.Usage(cmd.Context(), k.ID, time.Now(), time.Now())
				if err != nil {
					return err
				}
				all = append(all, u)
			}
			if a.json {
				return a.printJSON(map[string]any{"keys": all})
			}
			w := tabwriter.NewWriter(a.env.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tID\tCREATED\tSTATE\tBUDGET A DAY\tSPENT TODAY\tHELD\tA MINUTE\tAT ONE TIME\tMODELS")
			for _, u := range all {
				state := "active"
				if u.Key.Disabled {
					state = "disabled"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", u.Key.Name, u.Key.ID, time.Unix(u.Key.Created, 0).UTC().Format(time.DateOnly), state,
					budgetText(u.Key.Budget), u.SpentNano, u.ReservedNano, limitText(u.Key.PerMinute), limitText(u.Key.Concurrent), modelsText(u.Key.Models))
			}
			if len(all) == 0 {
				fmt.Fprintln(w, "no keys: cocoon key create --name NAME")
			}
			return w.Flush()
		},
	})
}

func budgetText(b *coins.Nano) string {
	if b == nil {
		return "no limit"
	}
	return b.String()
}

func limitText(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func modelsText(m []string) string {
	if len(m) == 0 {
		return "all"
	}
	return strings.Join(m, ", ")
}

// oneKey wants the name or id of a key.
func oneKey(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{errors.New("name one key, as `cocoon key list` shows it")}
	}
	return nil
}

// change changes a key and shows it.
func (a *app) changeKey(cmd *cobra.Command, f *keyFlags, name string, change func(*team.Limits, *bool) error) error {
	s, err := a.keyStore(cmd.Context(), f)
	if err != nil {
		return err
	}
	defer s.Close()
	k, err := s.Set(cmd.Context(), name, change)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(k)
	}
	state := "active"
	if k.Disabled {
		state = "disabled"
	}
	fmt.Fprintf(a.env.Stdout, "%s (%s) is %s: budget a day %s, calls a minute %s, at one time %s, models %s\n",
		k.Name, k.ID, state, budgetText(k.Budget), limitText(k.PerMinute), limitText(k.Concurrent), modelsText(k.Models))
	return nil
}

func (a *app) keySetCommand(f *keyFlags) *cobra.Command {
	l := &limitFlags{}
	cmd := a.jsonFlag(&cobra.Command{
		Use: "set NAME", Short: "Change what a key may do; what is not named stays", Args: oneKey,
		Example: "  cocoon key set alice --budget 2 --per-minute 0\n  cocoon key set alice --models cocoon-demo-1,cocoon-demo-embed-1\n  cocoon key set alice --budget none --models ''",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeKey(cmd, f, args[0], func(to *team.Limits, _ *bool) error { return l.apply(cmd, to) })
		},
	})
	l.add(cmd)
	return cmd
}

func (a *app) keyDisableCommand(f *keyFlags, use string, disabled bool) *cobra.Command {
	short := "Refuse a key from now on, on every gateway that shares the store"
	if !disabled {
		short = "Let a disabled key in again"
	}
	return a.jsonFlag(&cobra.Command{
		Use: use + " NAME", Short: short, Args: oneKey, Example: "  cocoon key " + use + " alice",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeKey(cmd, f, args[0], func(_ *team.Limits, to *bool) error { *to = disabled; return nil })
		},
	})
}

func (a *app) usageCommand() *cobra.Command {
	f := &keyFlags{}
	var address, name, from, to string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "usage",
		Short: "What API keys used: requests, tokens and cost by day and model",
		Long: `Show what API keys used, by UTC day and model, in adjusted tokens, which are what
is charged. Who has the store of keys sees all of them, or one with --key. With
--url, or where the variable OPENAI_API_KEY is set, the gateway is asked for that
key's own.`,
		Example: "  cocoon usage\n  cocoon usage --key alice --from 2026-01-01 --json\n  OPENAI_API_KEY=ck-… cocoon usage --url http://127.0.0.1:10000/v1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			first, last := time.Now().UTC().AddDate(0, 0, -30), time.Now().UTC()
			for _, f := range []struct {
				flag string
				t    *time.Time
			}{{from, &first}, {to, &last}} {
				flag, t := f.flag, f.t
				if flag == "" {
					continue
				}
				var err error
				if *t, err = time.Parse(time.DateOnly, flag); err != nil {
					return usageError{fmt.Errorf("%q is no UTC day such as 2026-01-31", flag)}
				}
			}
			var all []*api.Usage
			if address != "" || a.getenv(apiKeyVariable) != "" {
				u, err := a.ownUsage(cmd.Context(), address, first, last)
				if err != nil {
					return err
				}
				all = append(all, u)
			} else {
				s, err := a.keyStore(cmd.Context(), f)
				if err != nil {
					return err
				}
				defer s.Close()
				keys, err := s.Keys(cmd.Context())
				if err != nil {
					return err
				}
				for _, k := range keys {
					if name != "" && k.Name != name && k.ID != name {
						continue
					}
					u, err := s.Usage(cmd.Context(), k.ID, first, last)
					if err != nil {
						return err
					}
					all = append(all, u)
				}
				if name != "" && len(all) == 0 {
					return fmt.Errorf("no key %q: `cocoon key list` shows all", name)
				}
			}
			if a.json {
				return a.printJSON(map[string]any{"keys": append([]*api.Usage{}, all...)})
			}
			w := tabwriter.NewWriter(a.env.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tDAY\tMODEL\tREQUESTS\tPROMPT\tCACHED\tCOMPLETION\tREASONING\tCOST")
			for _, u := range all {
				for _, d := range u.Days {
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", u.Key.Name, d.Day, short40(d.Model), d.Requests, d.PromptTokens, d.CachedTokens, d.CompletionTokens, d.ReasoningTokens, d.CostNano)
				}
				fmt.Fprintf(w, "%s\ttoday\tspent %s, held %s, budget %s\n", u.Key.Name, u.SpentNano, u.ReservedNano, budgetText(u.Key.Budget))
			}
			if len(all) == 0 {
				fmt.Fprintln(w, "no keys: cocoon key create --name NAME")
			}
			return w.Flush()
		},
	})
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file of the client; without it, that of the network in --dir")
	cmd.Flags().StringVar(&address, "url", "", "OpenAI base URL, to ask for the own key's use")
	cmd.Flags().StringVar(&name, "key", "", "one key, by name or id (default: all)")
	cmd.Flags().StringVar(&from, "from", "", "first UTC day (default: 30 days ago)")
	cmd.Flags().StringVar(&to, "to", "", "last UTC day (default: today)")
	return cmd
}

// ownUsage asks a gateway what the caller's own key used.
func (a *app) ownUsage(ctx context.Context, address string, from, to time.Time) (*api.Usage, error) {
	g, err := a.gateway(address)
	if err != nil {
		return nil, err
	}
	q := url.Values{"from": {from.Format(time.DateOnly)}, "to": {to.Format(time.DateOnly)}}
	resp, err := g.call(ctx, http.MethodGet, "/usage?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var u api.Usage
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&u); err != nil || u.Key == nil {
		return nil, errors.New("the gateway's answer is no usage")
	}
	return &u, nil
}
