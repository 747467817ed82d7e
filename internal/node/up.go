//go:build !tee

package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/money/settle"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// UpConfig configures the network that Up runs.
type UpConfig struct {
	// Dir keeps everything; the same Dir resumes the same network.
	Dir string
	// Listen is the gateway's address. With port 0 every port is chosen free.
	Listen string
	// Workers is how many workers there are, Proxies how many proxies; 0 = 1.
	Workers, Proxies int
	// MaxCalls is how many calls the gateway runs at one time; 0 = as always.
	MaxCalls int
	// Engine is "demo", the URL of an engine, "auto" for one that runs here, or a
	// make to start. Model is its model's name, in full or not; "" = what it
	// lists first. ModelPath, if set, is the model's folder or file, whose hash
	// becomes part of the name or is compared with it. EngineKey is the
	// engine's API key.
	Engine, Model, ModelPath, EngineKey string
	// RequireKeys asks callers for API keys, which are kept in the client's
	// folder.
	RequireKeys bool
	// Executable is this program, which is started again for every role.
	Executable string
	// Progress gets lines for people.
	Progress func(format string, args ...any)
	// Ready is called once the network answers.
	Ready func(State)
}

// Validate reports what a person asked for that cannot be.
func (c *UpConfig) Validate() error {
	if c.Workers < 1 || c.Workers > 64 {
		return fmt.Errorf("--workers %d: 1 to 64 are possible", c.Workers)
	}
	if c.MaxCalls < 0 || c.MaxCalls > 1_000_000 {
		return fmt.Errorf("--max-calls %d: 1 to 1000000 are possible", c.MaxCalls)
	}
	if c.Proxies < 0 || c.Proxies > 16 {
		return fmt.Errorf("--proxies %d: 1 to 16 are possible", c.Proxies)
	}
	if _, err := net.ResolveTCPAddr("tcp", c.Listen); err != nil {
		return fmt.Errorf("--listen %q is no address such as 127.0.0.1:10000: %v", c.Listen, err)
	}
	return c.validateEngine()
}

// The development network's fixed parts.
const (
	simProxyImage = "cocoon-proxy"
	simWorkImage  = "cocoon-worker"
	devDifficulty = 8 // proof of work: the way is exercised, nobody waits
	// Looks at the chain and marks on it, in seconds: the chain is here and
	// its gas is free.
	devEvery, devMarkEvery, devAnchorEvery = 0.2, 2, 5
	// What the client deposits by itself.
	devBudget, devTopUp = "500", "20"

	settleLimit = 15 * time.Second
)

// Up runs a whole network on this machine until ctx ends: a chain of its own
// and each role, every one a process that is restarted when it dies.
func Up(ctx context.Context, cfg UpConfig) error {
	if cfg.Workers < 1 || cfg.Workers > 64 {
		return fmt.Errorf("--workers %d: 1 to 64 are possible", cfg.Workers)
	}
	cfg.Proxies = max(cfg.Proxies, 1)
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	n := &network{cfg: cfg, lock: lock, changed: make(chan struct{}, 1)}
	defer n.closeSockets()
	return n.run(ctx)
}

// network is a network being run.
type network struct {
	cfg      UpConfig
	lock     *os.File // on the folder; children inherit it
	children []*child
	mu       sync.Mutex
	state    State
	changed  chan struct{}
}

// path is a file or folder of the network.
func (n *network) path(name ...string) string {
	return filepath.Join(append([]string{n.cfg.Dir}, name...)...)
}

// embedWorker is the name of the worker with the demo engine's embeddings.
const embedWorker = "worker-embed"

// openSockets opens every listening socket. They are the first thing, as the
// root contract names the proxy's.
func (n *network) openSockets() (proxies, workers []*child, client *child, err error) {
	var all openings
	addr := func(port int) string {
		if _, p, _ := net.SplitHostPort(n.cfg.Listen); p == "0" {
			port = 0
		}
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	}
	for i := range n.cfg.Proxies {
		name := "proxy"
		if i > 0 {
			name = fmt.Sprintf("proxy-%d", i+1)
		}
		p := n.child("proxy", name)
		all.note(p.open("workers", addr(11001+10*i)), p.open("clients", addr(11002+10*i)), p.open("status", addr(11000+10*i)))
		proxies = append(proxies, p)
	}
	for i := range n.cfg.Workers {
		w := n.child("worker", fmt.Sprintf("worker-%d", i+1))
		all.note(w.open("status", addr(12000+10*i)))
		workers = append(workers, w)
	}
	if n.cfg.Engine == "demo" {
		// A worker serves one model; the demo engine has another for embeddings.
		w := n.child("worker", embedWorker)
		all.note(w.open("status", addr(12900)))
		workers = append(workers, w)
	}
	client = n.child("client", "client")
	all.note(client.open("gateway", n.cfg.Listen), client.open("status", addr(10001)))
	return proxies, workers, client, all.err()
}

// ChainSocket names the socket of the development chain's liteserver.
const ChainSocket = "liteserver"

// chainChild is the process of the development chain. Its address is chosen
// once and kept, since clients of the chain keep it too.
func (n *network) chainChild() (*child, error) {
	c := n.child("chain", "chain")
	addrFile := n.path("devnet.addr")
	b, err := readSmall(addrFile)
	if err == nil {
		err = c.open(ChainSocket, strings.TrimSpace(string(b)))
	}
	if err != nil {
		if err := c.open(ChainSocket, "127.0.0.1:0"); err != nil {
			return nil, err
		}
		// Nobody should try the old address, where a stranger may listen now.
		if err := os.Remove(devnet.GlobalConfigPath(n.path("devnet"))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := writeFile(addrFile, []byte(c.addr(ChainSocket)+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	operatorKey, err := ensureKey(n.path("keys", "operator.key"))
	if err != nil {
		return nil, err
	}
	owner, err := personal(operatorKey).Address()
	if err != nil {
		return nil, err
	}
	c.args = []string{"devnet", "--dir", n.cfg.Dir}
	if _, err := os.Stat(n.path("root")); errors.Is(err, fs.ErrNotExist) {
		c.args = append(c.args, "--fund", owner.String()+"="+operatorFunds.Decimal())
	}
	return c, nil
}

// prepareInTime is prepare with a limit: what waits for a block that never
// brings what was sent would wait for ever.
func (n *network) prepareInTime(ctx context.Context, proxies, workers []*child, client *child) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("the development chain did not take the root contract and the wallets within %v; %s says why, and a new --dir starts anew", readyLimit, n.path("logs", "chain.log")))
	defer cancel()
	err := n.prepare(ctx, proxies, workers, client)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// prepare deploys what is missing on the chain and writes the configuration of
// every role.
func (n *network) prepare(ctx context.Context, proxies, workers []*child, client *child) error {
	seed, err := ensureSecret(n.path("platform.seed"))
	if err != nil {
		return err
	}
	vendor, err := simulated.New(seed)
	if err != nil {
		return err
	}
	model := cocoon.ModelName(n.cfg.Model)
	models := [][32]byte{sha256.Sum256([]byte(model))}
	if n.cfg.Engine == "demo" {
		models = append(models, sha256.Sum256([]byte(demo.EmbedFullName())))
	}
	want := listing{proxyImage: simulated.Image(simProxyImage).Hash(), workerImage: simulated.Image(simWorkImage).Hash(), models: models}
	for _, p := range proxies {
		want.proxies = append(want.proxies, registry.Proxy{ForWorkers: p.addr("workers"), ForClients: p.addr("clients")})
	}
	root, err := n.arrange(ctx, slices.Concat(proxies, []*child{client}, workers), want)
	if err != nil {
		return err
	}
	for _, c := range n.children {
		if c.role == "chain" {
			continue
		}
		owner, err := n.owner(c)
		if err != nil {
			return err
		}
		cfg := Default(c.role)
		cfg.Measured = Measured{
			GlobalID: devnet.DefaultGlobalID, RootContract: root.String(), TonConfig: devnet.GlobalConfigPath(n.path("devnet")), IsTest: true,
			Evidence: string(attest.Simulated), Accept: []string{string(attest.Simulated)}, SimulatedRoot: vendor.RootKeyID().String(),
			MinLevel: 1, Seal: string(api.SealRequire),
		}
		r := &cfg.Runtime
		r.Dir, r.Status, r.Owner = n.path(c.name), c.addr("status"), owner.String()
		r.WalletKeyFile = n.walletKey(c)
		r.SimulatedSeed, r.SimulatedMachine, r.PowDifficulty = n.path("platform.seed"), c.name, devDifficulty
		r.Proxies = n.cfg.Proxies
		r.Every, r.MarkEvery, r.AnchorEvery = devEvery, devMarkEvery, devAnchorEvery
		switch c.role {
		case "proxy":
			cfg.Measured.SimulatedImage = simProxyImage
			r.KeyFile = n.path("keys", c.name+".key")
			r.ListenWorkers, r.ListenClients = c.addr("workers"), c.addr("clients")
			if _, err := ensureKey(r.KeyFile); err != nil {
				return err
			}
		case "worker":
			cfg.Measured.SimulatedImage = simWorkImage
			cfg.Measured.Engine, cfg.Measured.Model, cfg.Measured.ModelPath = n.cfg.Engine, string(model), n.cfg.ModelPath
			if c.name == embedWorker {
				cfg.Measured.Model = demo.EmbedFullName()
			}
		case "client":
			cfg.Measured.Evidence = string(attest.None) // clients attest to nobody
			if n.cfg.MaxCalls > 0 {
				r.MaxCalls = n.cfg.MaxCalls
			}
			r.Listen, r.Budget, r.TopUp = c.addr("gateway"), devBudget, devTopUp
			r.SecretFile, r.RequireKeys = n.path("keys", "client.login"), n.cfg.RequireKeys
			if _, err := ensureSecret(r.SecretFile); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(r.Dir, 0o700); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := cfg.Write(&b); err != nil {
			return err
		}
		config := n.path(c.name + ".toml")
		if err := writeFile(config, b.Bytes(), 0o600); err != nil {
			return err
		}
		c.args = []string{c.role, "--config", config}
	}
	return nil
}

// arrange makes the chain what the network needs: the root contract deployed
// and up to date, the wallets of all roles funded.
func (n *network) arrange(ctx context.Context, roles []*child, want listing) (cocoon.Address, error) {
	key, err := ensureKey(n.path("keys", "operator.key"))
	if err != nil {
		return cocoon.Address{}, err
	}
	op, err := openOperator(ctx, n.cfg.Dir, key)
	if err != nil {
		return cocoon.Address{}, err
	}
	defer op.close()
	if err := op.awaitFunds(ctx); err != nil {
		return cocoon.Address{}, err
	}
	var wallets []cocoon.Address
	for _, c := range roles {
		owner, err := n.owner(c)
		if err != nil {
			return cocoon.Address{}, err
		}
		key, err := ensureKey(n.walletKey(c))
		if err != nil {
			return cocoon.Address{}, err
		}
		addr, err := wallet.Contract{Kind: wallet.Node, PublicKey: key.Public(), Owner: owner, Code: contracts.Wallet()}.Address()
		if err != nil {
			return cocoon.Address{}, err
		}
		wallets = append(wallets, addr)
	}
	root, err := n.root(ctx, op)
	if err != nil {
		return cocoon.Address{}, err
	}
	return root, op.arrange(ctx, root, want, wallets)
}

// root returns the network's root contract, deploying it the first time.
func (n *network) root(ctx context.Context, op *operator) (cocoon.Address, error) {
	b, err := readSmall(n.path("root"))
	if err == nil {
		return cocoon.ParseAddress(strings.TrimSpace(string(b)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return cocoon.Address{}, err
	}
	root, err := op.deployRoot(ctx)
	if err != nil {
		return root, err
	}
	return root, writeFile(n.path("root"), []byte(root.String()+"\n"), 0o600)
}

// owner is the person behind a role: an ordinary wallet of its own.
func (n *network) owner(c *child) (cocoon.Address, error) {
	key, err := ensureKey(n.path("keys", c.name+"-owner.key"))
	if err != nil {
		return cocoon.Address{}, err
	}
	return personal(key).Address()
}

func (n *network) walletKey(c *child) string { return n.path("keys", c.name+"-wallet.key") }

// run starts the children, waits until the network answers, and keeps it so.
func (n *network) run(ctx context.Context) error {
	start := time.Now()
	last, current := start, ""
	phase := func(name, what string) {
		now := time.Now()
		if current != "" {
			n.mu.Lock()
			n.state.Phases = append(slices.Clip(n.state.Phases), Phase{current, now.Sub(last).Seconds()})
			n.mu.Unlock()
		}
		last, current = now, name
		n.cfg.Progress("%6.2f s  %s", now.Sub(start).Seconds(), what)
	}
	if n.cfg.Engine != "demo" {
		phase("engine", "finding out about the engine and its model")
	}
	if err := n.cfg.resolveEngine(ctx); err != nil {
		return err
	}
	chainProc, err := n.chainChild()
	if err != nil {
		return err
	}
	proxies, workers, client, err := n.openSockets()
	if err != nil {
		return err
	}
	n.state.Gateway, n.state.Pid, n.state.Simulated = "http://"+client.addr("gateway"), os.Getpid(), true
	n.state.Model = cocoon.ModelName(n.cfg.Model).Base()
	// Children live a little longer than ctx: they are stopped in order.
	childCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(childCtx)
	started := 0
	launch := func(children ...*child) {
		for _, c := range children {
			g.Go(func() error { return c.supervise(gctx) })
			started++
		}
	}
	g.Go(func() error { return n.publish(gctx, n.changed) })

	err = func() error {
		// Whatever ends a child for good ends the start.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(gctx, cancel)()
		phase("chain", "starting a development chain")
		launch(chainProc)
		if err := n.awaitChain(ctx); err != nil {
			return err
		}
		phase("contracts", "root contract, wallets and prices on chain")
		if err := n.prepareInTime(ctx, proxies, workers, client); err != nil {
			return err
		}
		phase("processes", fmt.Sprintf("starting proxies (%d), workers (%d) and the client", len(proxies), len(workers)))
		launch(n.children[1:]...)
		return n.waitReady(ctx, gctx)
	}()
	if cause := context.Cause(gctx); err != nil && ctx.Err() == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if err == nil {
		phase("", fmt.Sprintf("ready: %d processes, engine %s", len(n.children), n.cfg.Engine))
		select { // so that network.json has the phases
		case n.changed <- struct{}{}:
		default:
		}
		if n.cfg.Ready != nil {
			n.cfg.Ready(n.snapshot())
		}
		select {
		case <-ctx.Done():
			n.settle()
		case <-gctx.Done():
		}
	}
	n.stopChildren(n.children[:started])
	stop()
	werr := g.Wait()
	switch {
	case ctx.Err() != nil:
		err = nil // who stops a network is not told that it was interrupted
	case err == nil:
		err = werr
	}
	if rerr := os.Remove(n.path(stateFile)); err == nil && rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	return err
}

// stopChildren stops the client first, so that no request is taken that nobody
// will serve, then the workers, which finish what they have, then the proxy,
// which writes it down; the chain last.
func (n *network) stopChildren(children []*child) {
	for _, role := range []string{"client", "worker", "proxy", "chain"} {
		var wg sync.WaitGroup
		for _, c := range children {
			if c.role == role {
				wg.Go(c.stop)
			}
		}
		wg.Wait()
	}
}

// awaitChain waits until the chain's process answers.
func (n *network) awaitChain(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("the development chain did not start within %v; %s says why", readyLimit, n.path("logs", "chain.log")))
	defer cancel()
	// Its socket is open before it runs: only an answer says that it does.
	answers := func() bool {
		b, err := readSmall(devnet.GlobalConfigPath(n.path("devnet")))
		if err != nil {
			return false
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		c, err := access.Open(ctx, access.Config{GlobalConfig: b})
		return err == nil && c.Close() == nil
	}
	for !answers() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// settle puts on chain what is owed, so that totals can be compared. A
// network that is being stopped does not insist.
func (n *network) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), settleLimit)
	defer cancel()
	for _, c := range n.children {
		if c.role != "proxy" {
			continue
		}
		if _, err := OrderChannel(ctx, n.path(c.name), "http://"+c.addr("status"), ChannelOrder{Verb: settle.OrderSettle, Execute: true}); err != nil {
			n.cfg.Progress("not settled: %v; it will be after the next start", err)
		}
	}
}

// publish keeps network.json up to date.
func (n *network) publish(ctx context.Context, changed <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			s := n.snapshot()
			if err := s.write(n.cfg.Dir); err != nil {
				return err
			}
		}
	}
}

func (n *network) snapshot() State {
	n.mu.Lock()
	s := n.state
	n.mu.Unlock()
	s.Children = nil
	for _, c := range n.children {
		pid, restarts := c.now()
		child := Child{Name: c.name, Role: c.role, Pid: pid, Restarts: restarts}
		if addr := c.addr("status"); addr != "" {
			child.Status = "http://" + addr
		}
		s.Children = append(s.Children, child)
	}
	return s
}

// readyLimit is how long a network may take to answer.
const readyLimit = 60 * time.Second

// loadLimit is how long an engine may take to load its model.
const loadLimit = 2 * time.Hour

// waitReady waits until the gateway lists a model that a live worker serves.
// Meanwhile it tells what the engine is waited for.
func (n *network) waitReady(ctx, children context.Context) error {
	limit := readyLimit
	if n.cfg.Engine != "demo" {
		limit = loadLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the network was not ready within %v; the logs in %s say why", limit, filepath.Join(n.cfg.Dir, "logs")))
	defer cancel()
	client := &http.Client{Timeout: 15 * time.Second}
	ready, sign := n.state.Gateway+"/v1/models/"+cocoon.ModelName(n.cfg.Model).Base(), `"coefficient"`
	if n.cfg.RequireKeys { // there is none to ask with
		ready, sign = n.state.Gateway+"/readyz", `"ready"`
	}
	begin, told := time.Now(), ""
	for {
		if err := probe(ctx, client, ready, sign); err == nil {
			return nil
		}
		if why := n.engineWaits(ctx, client); why != told && strings.HasPrefix(why, "the engine") && time.Since(begin) > 3*time.Second {
			told = why
			n.cfg.Progress("waiting for the engine: %s", why)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-children.Done():
			return context.Cause(children)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// engineWaits is why the first worker that is not ready takes no requests; "" if
// that is nothing of the engine's, or not known.
func (n *network) engineWaits(ctx context.Context, c *http.Client) string {
	for _, w := range n.children {
		if w.role != "worker" || n.cfg.Engine == "demo" {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.addr("status")+"/readyz", nil)
		if err != nil {
			return ""
		}
		resp, err := c.Do(req)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
		resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusServiceUnavailable {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

func probe(ctx context.Context, c *http.Client, url, want string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(b, []byte(want)) {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// ensureSecret returns 32 random bytes that are kept in a file.
func ensureSecret(path string) ([]byte, error) {
	b, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	b = make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	return b, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), writeFile(path, b, 0o600))
}

func ensureKey(path string) (wallet.Key, error) {
	key, err := wallet.ReadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return wallet.Key{}, err
	}
	key = wallet.NewKey()
	return key, wallet.WriteKeyFile(path, key)
}

func (n *network) closeSockets() {
	for _, c := range n.children {
		c.closeSockets()
	}
}
