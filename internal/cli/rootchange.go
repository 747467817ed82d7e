package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/follow"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/node"
)

// ownerFlags say whose root contract is meant, and whether to act.
type ownerFlags struct {
	chainFlags
	wallet, kind, root string
	yes                bool
	wait               time.Duration
}

func (a *app) ownerFlags(cmd *cobra.Command, f *ownerFlags) {
	a.chainFlags(cmd, &f.chainFlags)
	cmd.Flags().StringVar(&f.wallet, "wallet", "", "key file of the owner's wallet; without it, that of the network in --dir")
	cmd.Flags().StringVar(&f.kind, "kind", "v5r1", "kind of the owner's wallet: v5r1 or v4r2")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do it; without it only show what would be sent")
	cmd.Flags().DurationVar(&f.wait, "wait", 10*time.Minute, "how long to wait for the chain")
}

// rootAddress is the root contract meant: --root, or that of the network in
// --dir.
func (a *app) rootAddress(flag string) (cocoon.Address, error) {
	if flag == "" {
		b, err := os.ReadFile(filepath.Join(a.dir, "root"))
		if errors.Is(err, fs.ErrNotExist) {
			return cocoon.Address{}, usageError{fmt.Errorf("which root contract? Name it with --root; %s holds no network", a.dir)}
		}
		if err != nil {
			return cocoon.Address{}, err
		}
		return cocoon.ParseAddress(strings.TrimSpace(string(b)))
	}
	addr, err := cocoon.ParseAddress(flag)
	if err != nil {
		return addr, usageError{fmt.Errorf("--root: %w", err)}
	}
	return addr, nil
}

// openOwner opens the owner's wallet on its chain.
func (a *app) openOwner(ctx context.Context, f *ownerFlags) (*node.RootOwner, error) {
	kind, err := wallet.ParseKind(f.kind)
	if err == nil && kind == wallet.Node {
		err = errors.New("a node wallet cannot own a root contract: v5r1 and v4r2 can")
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--kind: %w", err)}
	}
	// The outbox stands where others that use the same wallet have theirs.
	path, outbox := f.wallet, filepath.Dir(f.wallet)
	if path == "" {
		path, outbox = filepath.Join(a.dir, "keys", "operator.key"), filepath.Join(a.dir, "operator")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, usageError{fmt.Errorf("who owns it? Name the key file of the owner's wallet with --wallet; %s holds no network", a.dir)}
		}
	}
	key, err := wallet.ReadKeyFile(path)
	if err != nil {
		return nil, err
	}
	client, err := a.openChain(ctx, &f.chainFlags)
	if err != nil {
		return nil, err
	}
	w, err := wallet.Open(wallet.Config{Chain: client, Key: key, Dir: outbox, Contract: wallet.Contract{Kind: kind, GlobalID: client.Network().GlobalID}})
	if err != nil {
		client.Close()
		return nil, err
	}
	return &node.RootOwner{Chain: client, Wallet: w}, nil
}

// rootChange is one operation on a root contract.
type rootChange struct {
	say     string // what it does, for people
	message bindings.Message
	// done reports whether a state has it; nil = a state does not tell.
	done func(*registry.Snapshot) bool
	// whole says that it replaces the state that it was planned on.
	whole bool
}

// shownRoot is a change as it is printed: what it does, or did.
type shownRoot struct {
	Root    cocoon.Address `json:"root"`
	Wallet  cocoon.Address `json:"wallet"`
	Balance coins.Nano     `json:"wallet_balance_nano"` // before
	Change  string         `json:"change"`
	// Carried is what the message takes along. What the contract does not use
	// of it comes back, but for a deployment's deposit.
	Carried       coins.Nano `json:"carried_nano"`
	Fee           coins.Nano `json:"fee_nano"` // estimated, for sending
	Done          bool       `json:"done"`
	Transaction   string     `json:"transaction,omitempty"` // of the root contract, hex
	Version       uint32     `json:"version"`
	ParamsVersion uint32     `json:"params_version"`
}

func (a *app) showRoot(x *shownRoot, deposit bool) {
	out := a.env.Stdout
	fmt.Fprintf(out, "change  %s\nfrom    %s, which holds %s\nto      root contract %s\n", x.Change, x.Wallet, x.Balance, x.Root)
	rest := "; what is left of the gas comes back"
	if deposit {
		rest = ", the contract's deposit for its rent"
	}
	fmt.Fprintf(out, "amount  %s%s\nfee     about %s\n", x.Carried, rest, x.Fee)
}

// confirmRoot shows a change and asks for it.
func (a *app) confirmRoot(ctx context.Context, f *ownerFlags, x *shownRoot, deposit bool) error {
	if !a.json {
		a.showRoot(x, deposit)
	}
	err := a.confirm(ctx, f.yes)
	if err != nil && a.json {
		err = errors.Join(err, a.printJSON(x))
	}
	return err
}

// rootOp describes a command that changes a root contract.
type rootOp struct {
	use, short, long, example string
	args                      int // how many there may be
	least                     int // and must
	flags                     func(cmd *cobra.Command)
	plan                      func(s *registry.Snapshot, cmd *cobra.Command, args []string) (rootChange, error)
	// whole, in place of plan, changes the contract's state as a whole.
	whole func(s *registry.Snapshot, acc *access.Account, cmd *cobra.Command) (rootChange, error)
}

func (a *app) rootOpCommand(op rootOp) *cobra.Command {
	f := &ownerFlags{}
	cmd := a.jsonFlag(&cobra.Command{
		Use: op.use, Short: op.short, Example: op.example,
		Long: strings.TrimSpace(op.long) + "\n\nIt takes effect at once, for everybody. What would be sent is shown first; nothing\nis sent without --yes, or a yes at a terminal.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < op.least || len(args) > op.args {
				return usageError{fmt.Errorf("it goes as in `%s`", strings.TrimSpace(strings.Split(op.example, "\n")[0]))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
			defer cancel()
			return a.changeRoot(ctx, f, func(s *registry.Snapshot, acc *access.Account) (rootChange, error) {
				if op.whole != nil {
					return op.whole(s, acc, cmd)
				}
				return op.plan(s, cmd, args)
			})
		},
	})
	a.ownerFlags(cmd, f)
	cmd.Flags().StringVar(&f.root, "root", "", "address of the root contract; without it, that of the network in --dir")
	if op.flags != nil {
		op.flags(cmd)
	}
	return cmd
}

// changeRoot plans a change on the proven state, shows it, and carries it out.
func (a *app) changeRoot(ctx context.Context, f *ownerFlags, plan func(*registry.Snapshot, *access.Account) (rootChange, error)) error {
	root, err := a.rootAddress(f.root)
	if err != nil {
		return err
	}
	o, err := a.openOwner(ctx, f)
	if err != nil {
		return err
	}
	defer o.Chain.Close()
	s, err := follow.Read(ctx, o.Chain, root)
	if err != nil {
		return err
	}
	if s.Owner != o.Wallet.Address() {
		return fmt.Errorf("root contract %s is owned by %s, and this key's wallet is %s: name the owner's key file with --wallet, and the wallet's --kind", root, s.Owner, o.Wallet.Address())
	}
	acc, err := o.Chain.Account(ctx, root)
	if err != nil {
		return err
	}
	c, err := plan(s, &acc)
	if err != nil {
		return err
	}
	x := &shownRoot{Root: root, Wallet: o.Wallet.Address(), Change: c.say, Version: s.Version, ParamsVersion: s.Params.ParamsVersion}
	if c.done != nil && c.done(s) {
		x.Done = true
		if a.json {
			return a.printJSON(x)
		}
		fmt.Fprintf(a.env.Stdout, "nothing to do, the root contract has it already: %s\n", c.say)
		return nil
	}
	m, err := o.Message(root, c.message)
	if err != nil {
		return err
	}
	p, err := o.Wallet.Preview(ctx, []wallet.Message{m.Message})
	if err != nil {
		return err
	}
	x.Balance, x.Carried, x.Fee = p.Balance, p.Amount, p.Fee
	if err := a.confirmRoot(ctx, f, x, false); err != nil {
		return err
	}
	if c.whole {
		now, err := o.Chain.Account(ctx, root)
		if err != nil {
			return err
		}
		if now.LastTxLT != acc.LastTxLT {
			return errors.New("nothing was sent: the root contract was changed meanwhile, and this would undo it; begin again")
		}
	}
	tx, err := o.Send(ctx, m)
	if err != nil {
		return err
	}
	if s, err = follow.Read(ctx, o.Chain, root); err != nil {
		return fmt.Errorf("the change was carried out, but now %w", err)
	}
	if c.done != nil && !c.done(s) {
		return errors.New("the change was carried out, and another one has undone it since")
	}
	x.Done, x.Transaction, x.Version, x.ParamsVersion = true, hex.EncodeToString(tx.Hash[:]), s.Version, s.Params.ParamsVersion
	if a.json {
		return a.printJSON(x)
	}
	fmt.Fprintf(a.env.Stdout, "done    in transaction %s, proven in block %d: version %d, params %d\n", x.Transaction, s.Seqno, s.Version, s.Params.ParamsVersion)
	return nil
}

// terms are the flags of what a network costs; what is not given stays.
type terms struct {
	price, fee, proxyStake, clientStake string
	proxyDelay, clientDelay             time.Duration
	// Multipliers of prompt, cached, completion and reasoning tokens.
	multipliers [4]string
}

// multiplierFlags are the flags of terms.multipliers.
var multiplierFlags = [4]string{"prompt-multiplier", "cached-multiplier", "completion-multiplier", "reasoning-multiplier"}

// weights adds the flags of what no message but a new state can change.
func (t *terms) weights(cmd *cobra.Command) {
	for i, what := range []string{"a prompt token", "a prompt token that the engine had in its cache", "a token of the answer", "a token of reasoning"} {
		cmd.Flags().StringVar(&t.multipliers[i], multiplierFlags[i], "", "how many tokens "+what+" counts for, as 1 or 0.1")
	}
}

// parseWeight is the inverse of weight: a decimal with up to four places.
func parseWeight(text string) (uint32, error) {
	whole, frac, _ := strings.Cut(text, ".")
	if whole == "" || len(frac) > 4 {
		return 0, fmt.Errorf("%q is not a multiplier such as 8 or 0.125, with at most four decimal places", text)
	}
	n, err := strconv.ParseUint(whole+(frac + "0000")[:4], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a multiplier from 0 to %s", text, weight(math.MaxUint32))
	}
	return uint32(n), nil
}

func (t *terms) prices(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.price, "price", "", "price of a token, as 20nano")
	cmd.Flags().StringVar(&t.fee, "worker-fee", "", "what of it is the worker's, as 19nano")
}

func (t *terms) all(cmd *cobra.Command) {
	t.prices(cmd)
	cmd.Flags().StringVar(&t.proxyStake, "min-proxy-stake", "", "least stake of a proxy, in coins")
	cmd.Flags().StringVar(&t.clientStake, "min-client-stake", "", "least stake of a client, in coins")
	cmd.Flags().DurationVar(&t.proxyDelay, "proxy-delay", 0, "how long a proxy's contract stays closing, as 24h")
	cmd.Flags().DurationVar(&t.clientDelay, "client-delay", 0, "how long a client's does; shorter than a proxy's")
}

// apply puts what was given into p and checks the whole.
func (t *terms) apply(cmd *cobra.Command, p *registry.Params) error {
	given := false
	for _, x := range []struct {
		flag, text string
		into       *coins.Nano
	}{{"price", t.price, &p.PricePerToken}, {"worker-fee", t.fee, &p.WorkerFeePerToken}, {"min-proxy-stake", t.proxyStake, &p.MinProxyStake}, {"min-client-stake", t.clientStake, &p.MinClientStake}} {
		if !cmd.Flags().Changed(x.flag) {
			continue
		}
		given = true
		var err error
		if *x.into, err = coins.Parse(x.text); err != nil {
			return usageError{fmt.Errorf("--%s: %w", x.flag, err)}
		}
	}
	for _, x := range []struct {
		flag string
		d    time.Duration
		into *uint32
	}{{"proxy-delay", t.proxyDelay, &p.ProxyDelayBeforeClose}, {"client-delay", t.clientDelay, &p.ClientDelayBeforeClose}} {
		if !cmd.Flags().Changed(x.flag) {
			continue
		}
		given = true
		if x.d < 0 || x.d%time.Second != 0 || x.d/time.Second > math.MaxUint32 {
			return usageError{fmt.Errorf("--%s %v: whole seconds are needed, as 24h", x.flag, x.d)}
		}
		*x.into = uint32(x.d / time.Second)
	}
	for i, into := range []*uint32{&p.Multipliers.Prompt, &p.Multipliers.Cached, &p.Multipliers.Completion, &p.Multipliers.Reasoning} {
		// Flags that the command does not have were not given.
		if !cmd.Flags().Changed(multiplierFlags[i]) {
			continue
		}
		given = true
		var err error
		if *into, err = parseWeight(t.multipliers[i]); err != nil {
			return usageError{fmt.Errorf("--%s: %w", multiplierFlags[i], err)}
		}
	}
	if !given && cmd.Name() != "deploy" {
		example := "--price 20nano"
		if cmd.Flags().Lookup("price") == nil {
			example = "--completion-multiplier 8"
		}
		return usageError{errors.New("nothing to set: name at least one value, as " + example)}
	}
	if err := node.CheckTerms(p); err != nil {
		return usageError{err}
	}
	return nil
}

func sayWeights(m pricing.Multipliers) string {
	return fmt.Sprintf("a prompt token counts for %s, a cached one for %s, one of the answer for %s, one of reasoning for %s", weight(m.Prompt), weight(m.Cached), weight(m.Completion), weight(m.Reasoning))
}

func sayTerms(p *registry.Params) string {
	return fmt.Sprintf("price %d nano a token, %d of it the worker's; closing delays proxy %v, client %v; stakes proxy %s, client %s",
		p.PricePerToken, p.WorkerFeePerToken, time.Duration(p.ProxyDelayBeforeClose)*time.Second, time.Duration(p.ClientDelayBeforeClose)*time.Second, p.MinProxyStake, p.MinClientStake)
}

// sameTerms reports whether p has everything that a message can set as q has
// it.
func sameTerms(p, q *registry.Params) bool {
	return p.PricePerToken == q.PricePerToken && p.WorkerFeePerToken == q.WorkerFeePerToken &&
		p.ProxyDelayBeforeClose == q.ProxyDelayBeforeClose && p.ClientDelayBeforeClose == q.ClientDelayBeforeClose &&
		p.MinProxyStake == q.MinProxyStake && p.MinClientStake == q.MinClientStake
}

// rootOps are the commands that change a root contract: one for each of its
// operations.
func (a *app) rootOps() []rootOp {
	var t terms
	var endpoint registry.Proxy
	var files struct{ proxy, worker, client, data, code string }
	const newTerms = `Contracts that exist keep the terms they were made under. Proxies deploy new ones,
close the old, and clients and workers follow; what was deposited comes back.`
	const images = `An image is a measurement of 32 bytes in hex, as ` + "`cocoon measure`" + ` prints it.`
	const models = `A model is its full name, name@commit:hash; on chain stands the SHA-256 of it, which
may be given instead in hex. A worker may serve only listed models.`
	endpointFlags := func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&endpoint.ForWorkers, "for-workers", "", "where it listens for workers: IPv4 address and port")
		cmd.Flags().StringVar(&endpoint.ForClients, "for-clients", "", "where it listens for clients: IPv4 address and port")
	}
	address := func() (registry.Proxy, error) {
		var err error
		if endpoint.ForWorkers, err = registry.ParseEndpoint(endpoint.ForWorkers); err != nil {
			return endpoint, usageError{fmt.Errorf("--for-workers: %w", err)}
		}
		if endpoint.ForClients, err = registry.ParseEndpoint(endpoint.ForClients); err != nil {
			return endpoint, usageError{fmt.Errorf("--for-clients: %w", err)}
		}
		return endpoint, nil
	}
	at := func(p registry.Proxy) func(registry.Proxy) bool {
		return func(q registry.Proxy) bool {
			return q.ForWorkers == p.ForWorkers && q.ForClients == p.ForClients && (p.Seqno == 0 || p.Seqno == q.Seqno)
		}
	}
	return []rootOp{
		a.imageOp(true, images), a.imageOp(false, images),
		modelOp(true, models), modelOp(false, models),
		{use: "add-proxy", short: "Register a proxy's addresses", flags: endpointFlags,
			long:    "Clients and workers find proxies by the addresses the root contract names.",
			example: "  cocoon root add-proxy --for-workers 203.0.113.5:11001 --for-clients 203.0.113.5:11002 --yes",
			plan: func(*registry.Snapshot, *cobra.Command, []string) (rootChange, error) {
				p, err := address()
				return rootChange{
					say: fmt.Sprintf("register the proxy at %s for workers, %s for clients", p.ForWorkers, p.ForClients), message: &bindings.RegisterProxy{Endpoint: p.Text()},
					done: func(s *registry.Snapshot) bool { return slices.ContainsFunc(s.Proxies, at(p)) },
				}, err
			}},
		{use: "update-proxy NUMBER", args: 1, least: 1, short: "Change a registered proxy's addresses", flags: endpointFlags,
			long:    "The number is the proxy's in `cocoon root show`.",
			example: "  cocoon root update-proxy 1 --for-workers 203.0.113.6:11001 --for-clients 203.0.113.6:11002 --yes",
			plan: func(s *registry.Snapshot, _ *cobra.Command, args []string) (rootChange, error) {
				old, err := registered(s, args[0])
				if err != nil {
					return rootChange{}, err
				}
				p, err := address()
				p.Seqno = old.Seqno
				return rootChange{
					say: fmt.Sprintf("move proxy %d to %s for workers, %s for clients", p.Seqno, p.ForWorkers, p.ForClients), message: &bindings.UpdateProxy{Seqno: p.Seqno, Endpoint: p.Text()},
					done: func(s *registry.Snapshot) bool { return slices.ContainsFunc(s.Proxies, at(p)) },
				}, err
			}},
		{use: "remove-proxy NUMBER", args: 1, least: 1, short: "Remove a registered proxy",
			long:    "The number is the proxy's in `cocoon root show`. Who is connected stays so; nobody new\nfinds it. Its contracts are not touched.",
			example: "  cocoon root remove-proxy 1 --yes",
			plan: func(s *registry.Snapshot, _ *cobra.Command, args []string) (rootChange, error) {
				p, err := registered(s, args[0])
				return rootChange{
					say: fmt.Sprintf("remove proxy %d at %s", p.Seqno, p.Text()), message: &bindings.UnregisterProxy{Seqno: p.Seqno},
					done: func(s *registry.Snapshot) bool {
						return !slices.ContainsFunc(s.Proxies, func(q registry.Proxy) bool { return q.Seqno == p.Seqno })
					},
				}, err
			}},
		{use: "set-prices", short: "Set the price of a token and the worker's part of it", flags: t.prices, long: newTerms,
			example: "  cocoon root set-prices --price 30nano --worker-fee 28nano --yes",
			plan: func(s *registry.Snapshot, cmd *cobra.Command, _ []string) (rootChange, error) {
				p := s.Params
				if err := t.apply(cmd, &p); err != nil {
					return rootChange{}, err
				}
				return rootChange{
					say: sayTerms(&p), message: &bindings.ChangeFees{Price: p.PricePerToken, Fee: p.WorkerFeePerToken},
					done: func(s *registry.Snapshot) bool { return sameTerms(&p, &s.Params) },
				}, nil
			}},
		{use: "set-params", short: "Set prices, closing delays and least stakes", flags: t.all, long: "What is not given stays as it is.\n\n" + newTerms,
			example: "  cocoon root set-params --proxy-delay 24h --client-delay 12h --min-client-stake 2.5 --yes",
			plan: func(s *registry.Snapshot, cmd *cobra.Command, _ []string) (rootChange, error) {
				p := s.Params
				if err := t.apply(cmd, &p); err != nil {
					return rootChange{}, err
				}
				return rootChange{
					say: sayTerms(&p),
					message: &bindings.ChangeParams{
						Price: p.PricePerToken, Fee: p.WorkerFeePerToken, ProxyDelay: p.ProxyDelayBeforeClose, ClientDelay: p.ClientDelayBeforeClose,
						MinProxyStake: p.MinProxyStake, MinClientStake: p.MinClientStake,
					},
					done: func(s *registry.Snapshot) bool { return sameTerms(&p, &s.Params) },
				}, nil
			}},
		{use: "set-multipliers", short: "Set how much prompt, cached, answer and reasoning tokens count", flags: t.weights,
			long:    "What is not given stays as it is. The root contract has no message for these alone: its\nstate is replaced by the same one with other multipliers, its code stays.\n\n" + newTerms,
			example: "  cocoon root set-multipliers --completion-multiplier 8 --cached-multiplier 0.1 --yes",
			whole: func(s *registry.Snapshot, acc *access.Account, cmd *cobra.Command) (rootChange, error) {
				p := s.Params
				if err := t.apply(cmd, &p); err != nil {
					return rootChange{}, err
				}
				data, err := withMultipliers(s.Root, acc.Data, p.Multipliers)
				return rootChange{
					say: sayWeights(p.Multipliers), message: &bindings.ReplaceRoot{Data: data, Code: acc.Code}, whole: true,
					done: func(s *registry.Snapshot) bool { return s.Params.Multipliers == p.Multipliers },
				}, err
			}},
		{use: "set-codes", short: "Set the code of future proxy, worker and client contracts", long: "Without files, the contracts of this program.\n\n" + newTerms,
			example: "  cocoon root set-codes --yes\n  cocoon root set-codes --proxy-code proxy.boc --yes",
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&files.proxy, "proxy-code", "", "file with the proxy contract's code (bag of cells)")
				cmd.Flags().StringVar(&files.worker, "worker-code", "", "file with the worker contract's code")
				cmd.Flags().StringVar(&files.client, "client-code", "", "file with the client contract's code")
			},
			plan: func(s *registry.Snapshot, _ *cobra.Command, _ []string) (rootChange, error) {
				m, before, kind := node.RootCodes(), s.Params.ParamsVersion, "this program's"
				for _, x := range []struct {
					path string
					into *[]byte
				}{{files.proxy, &m.Proxy}, {files.worker, &m.Worker}, {files.client, &m.Client}} {
					if x.path == "" {
						continue
					}
					var err error
					if *x.into, err = os.ReadFile(x.path); err != nil {
						return rootChange{}, err
					}
					kind = "of files"
				}
				return rootChange{
					say: "contract codes " + kind, message: m,
					done: func(s *registry.Snapshot) bool {
						return s.Params.ParamsVersion > before || bytes.Equal(s.Params.ProxyCode, m.Proxy) && bytes.Equal(s.Params.WorkerCode, m.Worker) && bytes.Equal(s.Params.ClientCode, m.Client)
					},
				}, nil
			}},
		{use: "set-owner ADDRESS", args: 1, least: 1, short: "Give the root contract to another owner",
			long:    "The new owner decides alone from then on. An address that nobody has a key of leaves\nthe network without an owner for ever.",
			example: "  cocoon root set-owner UQ... --yes",
			plan: func(_ *registry.Snapshot, _ *cobra.Command, args []string) (rootChange, error) {
				to, err := cocoon.ParseAddress(args[0])
				if err != nil {
					return rootChange{}, usageError{err}
				}
				return rootChange{
					say: fmt.Sprintf("give the root contract to %s", to), message: &bindings.ChangeOwner{Owner: to},
					done: func(s *registry.Snapshot) bool { return s.Owner == to },
				}, nil
			}},
		{use: "reset", short: "Empty all lists: images, models, proxies",
			long:    "Afterwards nobody may serve, until images, models and proxies are added again.",
			example: "  cocoon root reset --yes",
			plan: func(*registry.Snapshot, *cobra.Command, []string) (rootChange, error) {
				return rootChange{say: "empty the lists of images, models and proxies", message: bindings.ResetRoot{}, done: func(s *registry.Snapshot) bool {
					return len(s.ProxyImages)+len(s.WorkerImages)+len(s.ModelHashes)+len(s.Proxies) == 0
				}}, nil
			}},
		{use: "set-code [FILE]", args: 1, short: "Replace the root contract's own code",
			long:    "Without a file, by that of this program. A code that does not work makes the root\ncontract useless for ever.",
			example: "  cocoon root set-code --yes",
			plan: func(_ *registry.Snapshot, _ *cobra.Command, args []string) (rootChange, error) {
				code, say := node.RootCode(), "this program's"
				if len(args) > 0 {
					var err error
					if code, err = os.ReadFile(args[0]); err != nil {
						return rootChange{}, err
					}
					say = "of " + args[0]
				}
				return rootChange{say: "replace the root contract's code by " + say, message: &bindings.ChangeRootCode{Code: code}}, nil
			}},
		{use: "set-state", short: "Replace the root contract's data and code",
			long:    "For a move to another layout. Data that this program cannot read as a root contract's is\nrefused; a code that does not work makes the root contract useless for ever.",
			example: "  cocoon root set-state --data root-data.boc --yes",
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&files.data, "data", "", "file with the data (bag of cells)")
				cmd.Flags().StringVar(&files.code, "code", "", "file with the code; without it, this program's")
			},
			plan: func(s *registry.Snapshot, _ *cobra.Command, _ []string) (rootChange, error) {
				if files.data == "" {
					return rootChange{}, usageError{errors.New("--data is missing: the file with the data")}
				}
				data, err := os.ReadFile(files.data)
				if err != nil {
					return rootChange{}, err
				}
				next, err := bindings.DecodeRoot(s.Root, data)
				if err != nil {
					return rootChange{}, fmt.Errorf("%s: %w", files.data, err)
				}
				// The contract does not look at what replaces it.
				if err := node.CheckTerms(&next.Params); err != nil {
					return rootChange{}, fmt.Errorf("%s: %w", files.data, err)
				}
				// Nor do others notice what has no new number.
				if next.Version <= s.Version || next.Params.ParamsVersion < s.Params.ParamsVersion {
					return rootChange{}, fmt.Errorf("%s is of version %d, params %d: the root contract is at %d, params %d, and nobody would take an older state for the newer one", files.data, next.Version, next.Params.ParamsVersion, s.Version, s.Params.ParamsVersion)
				}
				code := node.RootCode()
				if files.code != "" {
					if code, err = os.ReadFile(files.code); err != nil {
						return rootChange{}, err
					}
				}
				return rootChange{say: fmt.Sprintf("replace the root contract's data and code; its owner will be %s", next.Owner), message: &bindings.ReplaceRoot{Data: data, Code: code}}, nil
			}},
	}
}

// withMultipliers returns a root contract's data with other multipliers, as a
// next version. Data that this program would not write as it is, it does not
// rewrite: what it does not understand would be lost.
func withMultipliers(root cocoon.Address, data []byte, m pricing.Multipliers) ([]byte, error) {
	s, err := bindings.DecodeRoot(root, data)
	if err != nil {
		return nil, err
	}
	again, err := bindings.EncodeRoot(s)
	if err != nil {
		return nil, err
	}
	is, err := bindings.Hash(data)
	if err != nil {
		return nil, err
	}
	if would, err := bindings.Hash(again); err != nil || would != is {
		return nil, errors.New("the root contract holds something that this program cannot read and would lose (an endpoint that is none?): remove it first, or replace the state by `cocoon root set-state`")
	}
	if s.Params.StructVersion < 3 {
		return nil, fmt.Errorf("the params have struct version %d, which holds no multipliers of prompts and answers", s.Params.StructVersion)
	}
	if s.Version == math.MaxUint32 || s.Params.ParamsVersion == math.MaxUint32 {
		return nil, errors.New("the root contract has run out of version numbers")
	}
	s.Params.Multipliers = m
	s.Version++
	s.Params.ParamsVersion++
	return bindings.EncodeRoot(s)
}

// registered returns the proxy of a number in words.
func registered(s *registry.Snapshot, text string) (registry.Proxy, error) {
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return registry.Proxy{}, usageError{fmt.Errorf("%q is not a proxy's number: `cocoon root show` lists them", text)}
	}
	for _, p := range s.Proxies {
		if p.Seqno == uint32(number) {
			return p, nil
		}
	}
	return registry.Proxy{}, fmt.Errorf("no proxy %d is registered: `cocoon root show` lists them", number)
}

// listOp is a change of one hash in a list.
func listOp(add bool, op bindings.Op, hash [32]byte, say string, list func(*registry.Snapshot) bool) rootChange {
	verb := "remove "
	if add {
		verb = "allow "
	}
	return rootChange{say: verb + say, message: &bindings.ListHash{Op: op, Hash: hash}, done: func(s *registry.Snapshot) bool { return list(s) == add }}
}

func (a *app) imageOp(add bool, long string) rootOp {
	verb, short := "remove-image", "Withdraw an image of proxies or workers"
	ops := map[string]bindings.Op{"proxy": bindings.OpDeleteProxyImage, "worker": bindings.OpDeleteWorkerImage}
	if add {
		verb, short = "add-image", "Allow an image of proxies or workers"
		ops = map[string]bindings.Op{"proxy": bindings.OpAddProxyImage, "worker": bindings.OpAddWorkerImage}
	}
	return rootOp{use: verb + " proxy|worker HASH", args: 2, least: 2, short: short, long: long,
		example: fmt.Sprintf("  cocoon root %s worker 7dd1a29c0b5e8d6cf2a34f4a4b0e6f9b1c2d3e4f5061728394a5b6c7d8e9f001 --yes", verb),
		plan: func(_ *registry.Snapshot, _ *cobra.Command, args []string) (rootChange, error) {
			op, ok := ops[args[0]]
			if !ok {
				return rootChange{}, usageError{fmt.Errorf("%q: an image is of a proxy or a worker", args[0])}
			}
			hash, ok := parseHash(args[1])
			if !ok {
				return rootChange{}, usageError{fmt.Errorf("%q is not an image hash: 64 hex digits", args[1])}
			}
			return listOp(add, op, hash, fmt.Sprintf("the %s image %x", args[0], hash), func(s *registry.Snapshot) bool {
				if args[0] == "proxy" {
					return slices.Contains(s.ProxyImages, hash)
				}
				return slices.Contains(s.WorkerImages, hash)
			}), nil
		}}
}

func modelOp(add bool, long string) rootOp {
	verb, short, op := "remove-model", "Withdraw a model", bindings.OpDeleteModel
	if add {
		verb, short, op = "add-model", "Allow a model", bindings.OpAddModel
	}
	return rootOp{use: verb + " NAME", args: 1, least: 1, short: short, long: long,
		example: fmt.Sprintf("  cocoon root %s Qwen/Qwen3-32B@9216db5781bf21249d130ec9da846c4624c16137:6e4d0e3a --yes", verb),
		plan: func(_ *registry.Snapshot, _ *cobra.Command, args []string) (rootChange, error) {
			hash, ok := parseHash(args[0])
			if !ok {
				if add && !strings.Contains(args[0], "@") {
					return rootChange{}, usageError{fmt.Errorf("%q is not a full model name, name@commit:hash: workers are matched by all of it", args[0])}
				}
				hash = sha256.Sum256([]byte(args[0]))
			}
			return listOp(add, op, hash, fmt.Sprintf("the model %s (%x)", args[0], hash), func(s *registry.Snapshot) bool { return slices.Contains(s.ModelHashes, hash) }), nil
		}}
}

func parseHash(text string) (hash [32]byte, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(hash) {
		return hash, false
	}
	return [32]byte(b), true
}

func (a *app) rootDeployCommand() *cobra.Command {
	f := &ownerFlags{}
	var t terms
	var unique uint32
	var test bool
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "deploy",
		Short: "Begin a network: deploy a root contract of one's own",
		Long: `Deploy a root contract with empty lists; the wallet that sends it owns it. Images,
models and proxies are added afterwards. Its address goes into the configuration of
every proxy, worker and client.

The same wallet and terms give the same address: --unique-id makes another one.
Unless told otherwise a token costs 20 nano, 19 of them the worker's; contracts stay
closing for 24 hours (proxies) and 12 (clients); stakes are 10 and 2.5 coins; a prompt
token counts for 1, a cached one for 0.1, one of the answer or of reasoning for 8.`,
		Example: "  cocoon root deploy --wallet owner.key --ton-config global.config.json\n  cocoon root deploy --wallet owner.key --price 30nano --worker-fee 28nano --proxy-delay 24h --client-delay 12h --yes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := node.RootParams()
			if err := t.apply(cmd, &p); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
			defer cancel()
			return a.deployRoot(ctx, f, p, unique, cmd.Flags().Changed("test"), test)
		},
	})
	a.ownerFlags(cmd, f)
	t.all(cmd)
	t.weights(cmd)
	cmd.Flags().Uint32Var(&unique, "unique-id", 1, "a number that makes the address another one")
	cmd.Flags().BoolVar(&test, "test", false, "mark the network as one for tests, which it is on every chain but the main one unless this says false")
	return cmd
}

func (a *app) deployRoot(ctx context.Context, f *ownerFlags, p registry.Params, unique uint32, testGiven, test bool) error {
	o, err := a.openOwner(ctx, f)
	if err != nil {
		return err
	}
	defer o.Chain.Close()
	p.UniqueID, p.IsTest = unique, o.Chain.Network().GlobalID != mainnetGlobalID
	if testGiven {
		p.IsTest = test
	}
	m, err := node.RootDeployment(o.Wallet.Address(), p)
	if err != nil {
		return err
	}
	x := &shownRoot{Root: m.To, Wallet: o.Wallet.Address(), Change: "deploy a root contract: " + sayTerms(&p) + "; " + sayWeights(p.Multipliers), ParamsVersion: p.ParamsVersion}
	var acc access.Account
	if acc, err = o.Chain.Account(ctx, m.To); err != nil {
		return err
	}
	if !acc.Deployed() {
		pre, err := o.Wallet.Preview(ctx, []wallet.Message{m})
		if err != nil {
			return err
		}
		x.Balance, x.Carried, x.Fee = pre.Balance, pre.Amount, pre.Fee
		if err := a.confirmRoot(ctx, f, x, true); err != nil {
			return err
		}
		if err := o.Deploy(ctx, m); err != nil {
			return err
		}
	}
	s, err := follow.Read(ctx, o.Chain, m.To)
	if err != nil {
		return err
	}
	x.Done, x.Version, x.ParamsVersion = true, s.Version, s.Params.ParamsVersion
	if a.json {
		return a.printJSON(x)
	}
	fmt.Fprintf(a.env.Stdout, "done    proven in block %d; the network's root contract is\n%s\n", s.Seqno, m.To)
	return nil
}
