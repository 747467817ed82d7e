package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee/endorse"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/router"
)

// routerFlags are the flags of `cocoon router`: the reference's, then ours.
type routerFlags struct {
	config, cert                    string
	policies, socks, forward        []string
	reverse, legacy, roots          []string
	info, generate                  bool
	threads, verbosity              int
	difficulty, maxDifficulty       int
	evidence, layout, pcs, endorsed string
	offline                         bool
	globalID                        int32
	maxConns                        int
}

func (a *app) routerCommand() *cobra.Command {
	var f routerFlags
	cmd := &cobra.Command{
		Use:   "router",
		Short: "An RA-TLS router beside a role that brings none of its own",
		Long: `Carry a role's plain local connections over attested ones, and attested ones to a
role. Ports for callers listen on 127.0.0.1, reverse ones on all addresses. The
flags and the JSON file are those of the C++ router, with the names of both its
generations: tdx and fake_tdx, or tee and fake_tee.

The policy is what a peer must prove. Unlike there, tee demands evidence, lists
that can hold nobody are refused, and so are on public networks (--global-id)
ports through which peers without hardware could pass as proxies or workers.

When all ports are open, a line "ready" is printed.`,
		Example: `  cocoon router -S 8116@tee -s -C /etc/tee/tee
  cocoon router -R 11001:localhost:11101@tee -R 11002:localhost:11102@any -s -C /etc/tee/tee
  cocoon router --config router.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.generate {
				_, err := io.WriteString(a.env.Stdout, routerExample)
				return err
			}
			return a.runRouter(cmd.Context(), &f, cmd.Flags().Changed)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.config, "config", "c", "", "configuration file (JSON)")
	fl.StringArrayVarP(&f.policies, "policy", "P", nil, "a policy, NAME:TYPE[:HASH,...]; types: any, tdx, tee, fake_tdx, fake_tee, simulated")
	fl.StringArrayVarP(&f.socks, "socks5", "S", nil, "a SOCKS5 port, PORT@POLICY[:HASH,...]")
	fl.StringArrayVarP(&f.forward, "fwd", "F", nil, "a port to a fixed peer, PORT:HOST:PORT@POLICY[:HASH,...]")
	fl.StringArrayVarP(&f.reverse, "rev", "R", nil, "a port for peers, PORT:HOST:PORT@POLICY[:HASH,...]")
	fl.StringArrayVarP(&f.legacy, "port", "p", nil, "a port in the old form, PORT:TYPE[:POLICY[:HOST:PORT]]")
	fl.BoolVarP(&f.info, "serialize-info", "s", false, "tell the role about its peer, on ports given by flags")
	fl.StringSliceVar(&f.roots, "collateral-hash", nil, "Intel root keys, HASH,...; in place of the one built in")
	fl.StringVarP(&f.cert, "cert", "C", "", "our certificate: BASE_cert.pem and BASE_key.pem, read again when they change")
	fl.IntVarP(&f.threads, "threads", "t", 0, "of no meaning here")
	fl.IntVarP(&f.difficulty, "pow-difficulty", "d", router.DefaultSettings().Difficulty, "difficulty of the proof of work we ask for")
	fl.IntVarP(&f.maxDifficulty, "max-pow-difficulty", "m", router.DefaultSettings().MaxDifficulty, "hardest proof of work we do")
	fl.BoolVarP(&f.generate, "generate-config", "g", false, "print a configuration file to start from and stop")
	fl.IntVarP(&f.verbosity, "verbosity", "v", 2, "3 logs every connection that failed, 4 also those that anybody can cause")
	fl.StringVar(&f.evidence, "evidence", "", "without --cert: none (the default), fake, or tee to ask this machine's kernel for evidence")
	fl.Int32Var(&f.globalID, "global-id", -239, "global id of the network; on -239 and -3 only hardware counts")
	fl.StringVar(&f.layout, "layout", "", "how to tell the role about its peer: december or april; as the policies' names if empty")
	fl.StringVar(&f.pcs, "pcs", "", "URL of a caching service for Intel's statements; Intel's own if empty")
	fl.StringVar(&f.endorsed, "collateral-dir", "", "folder that keeps vendors' statements; collateral in --dir if empty")
	fl.BoolVar(&f.offline, "offline", false, "fetch no statements, use what the folder has")
	fl.IntVar(&f.maxConns, "max-connections", 0, "connections a port carries at once; 0 means 4096")
	return cmd
}

// settings are what flags and file say together.
func (f *routerFlags) settings(given func(string) bool) (router.Settings, error) {
	s := router.DefaultSettings()
	if f.config != "" {
		text, err := os.ReadFile(f.config)
		if err != nil {
			return s, err
		}
		if s, err = router.ParseFile(text); err != nil {
			return s, fmt.Errorf("%s: %w", f.config, err)
		}
	}
	s.Difficulty, s.MaxDifficulty = f.difficulty, f.maxDifficulty
	if given("cert") {
		s.CertBase = f.cert
	}
	if f.threads < 0 {
		return s, fmt.Errorf("%w: --threads is negative", router.ErrSettings)
	}
	for _, text := range f.policies {
		r, err := router.ParseRule(text)
		if err != nil {
			return s, err
		}
		s.Rules = append(s.Rules, r)
	}
	for _, text := range f.roots {
		var id attest.KeyID
		if err := id.UnmarshalText([]byte(text)); err != nil {
			return s, fmt.Errorf("%w: --collateral-hash: %v", router.ErrSettings, err)
		}
		s.Roots = append(s.Roots, id)
	}
	if len(f.socks)+len(f.forward)+len(f.reverse)+len(f.legacy) > 0 {
		s.Ports = nil // flags take the place of the file's ports as a whole
	}
	for _, set := range []struct {
		kind  router.PortKind
		texts []string
	}{{router.SOCKS5, f.socks}, {router.Forward, f.forward}, {router.Reverse, f.reverse}} {
		for _, text := range set.texts {
			if err := s.AddPort(set.kind, text, f.info); err != nil {
				return s, err
			}
		}
	}
	for _, text := range f.legacy {
		if err := s.AddLegacyPort(text, f.info); err != nil {
			return s, err
		}
	}
	return s, nil
}

// routerLevel is the reference's number for how much to log.
func routerLevel(verbosity int) slog.Level {
	switch {
	case verbosity >= 4:
		return slog.LevelDebug
	case verbosity == 3:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// identity is our certificate.
func (f *routerFlags) identity(base string, source *endorse.Source, log *slog.Logger) (*ratls.Identity, error) {
	cfg := ratls.IdentityConfig{Log: log}
	switch {
	case base != "" && f.evidence != "":
		return nil, fmt.Errorf("%w: --cert and --evidence: only one of them can be presented", router.ErrSettings)
	case base != "":
		return ratls.NewFileIdentity(base, cfg), nil
	}
	switch f.evidence {
	case "", "none":
	case "fake":
		cfg.Attester = ratls.FakeAttester{}
	case "tee":
		cfg.Attester = &ratls.TSM{Signer: source.Signer}
	default:
		return nil, fmt.Errorf("%w: --evidence %q is not none, fake or tee", router.ErrSettings, f.evidence)
	}
	return ratls.NewIdentity(cfg), nil
}

func (a *app) runRouter(ctx context.Context, f *routerFlags, given func(string) bool) error {
	mistake := func(err error) error {
		if errors.Is(err, router.ErrSettings) {
			return usageError{err}
		}
		return err
	}
	s, err := f.settings(given)
	if err != nil {
		return mistake(err)
	}
	layouts := map[string]router.Layout{"": 0, router.December.String(): router.December, router.April.String(): router.April}
	layout, ok := layouts[f.layout]
	if !ok {
		return usageError{fmt.Errorf("--layout %q is not december or april", f.layout)}
	}
	log := slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: routerLevel(f.verbosity)}))
	if s.Simulated() {
		log = log.With("network", "SIMULATED")
	}
	dir := f.endorsed
	if dir == "" {
		dir = filepath.Join(a.dir, "collateral")
	}
	source := endorse.New(endorse.Config{
		Roots: append([]attest.KeyID{attest.IntelRoot}, attest.AMDRoots...),
		PCS:   f.pcs, Dir: dir, Offline: f.offline, Log: log,
	})
	id, err := f.identity(s.CertBase, source, log)
	if err != nil {
		return mistake(err)
	}
	var srv *router.Server
	srv, err = router.NewServer(router.ServerConfig{
		Settings: s, Identity: id, Endorser: source, GlobalID: f.globalID, Layout: layout, MaxConns: f.maxConns, Log: log,
		Ready: func() {
			fmt.Fprint(a.env.Stderr, srv)
			fmt.Fprintln(a.env.Stdout, "ready")
		},
	})
	if err != nil {
		return mistake(err)
	}
	return srv.Run(ctx)
}

// routerExample is what --generate-config prints.
const routerExample = `{
  "cert_base_name": "/etc/tee/tee",
  "policies": [
    {
      "name": "my-proxies",
      "type": "tee",
      "description": "one image only",
      "ratls_policy": {"tdx_config": {"allowed_image_hashes": [
        "04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436"
      ]}}
    }
  ],
  "ports": [
    {"port": 8116, "type": "socks5", "policy_name": "tee", "allow_policy_from_username": true, "serialize_info": true},
    {"port": 11001, "type": "reverse", "policy_name": "tee", "destination_host": "localhost", "destination_port": 11101, "serialize_info": true},
    {"port": 11002, "type": "reverse", "policy_name": "any", "destination_host": "localhost", "destination_port": 11102, "serialize_info": true}
  ]
}
`
