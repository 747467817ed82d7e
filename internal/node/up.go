//go:build !tee

package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// UpConfig configures the network that Up runs.
type UpConfig struct {
	// Dir keeps everything; the same Dir resumes the same network.
	Dir string
	// Listen is the gateway's address. With port 0 every port is chosen free.
	Listen string
	// Workers is how many workers there are.
	Workers int
	// Engine is "demo" or the URL of an engine; Model its model's full name.
	Engine, Model string
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
	if _, err := net.ResolveTCPAddr("tcp", c.Listen); err != nil {
		return fmt.Errorf("--listen %q is no address such as 127.0.0.1:10000: %v", c.Listen, err)
	}
	if c.Engine == "demo" {
		if c.Model != "" {
			return errors.New("--model is for an engine of yours: name its URL with --engine")
		}
		return nil
	}
	if u, err := url.Parse(c.Engine); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--engine %q is neither demo nor a URL such as http://127.0.0.1:8000", c.Engine)
	}
	if c.Model == "" {
		return errors.New("--engine needs --model: the full name of the model it serves, name@commit:hash")
	}
	return nil
}

// The simulated network's fixed parts.
const (
	devGlobalID   = 20482 // neither mainnet nor testnet
	simProxyImage = "cocoon-proxy"
	simWorkImage  = "cocoon-worker"
	devDifficulty = 8 // proof of work: the way is exercised, nobody waits
	devPrice      = 20
	devFee        = 19
)

// Up runs a whole network on this machine until ctx ends: each role is a
// process of its own, restarted when it dies.
func Up(ctx context.Context, cfg UpConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	n := &network{cfg: cfg}
	defer n.closeSockets()
	if err := n.prepare(); err != nil {
		return err
	}
	return n.run(ctx)
}

// network is a network being run.
type network struct {
	cfg      UpConfig
	children []*child
	state    State
}

// prepare creates what is missing in the folder and writes the configuration
// of every role.
func (n *network) prepare() error {
	dir := n.cfg.Dir
	seed, err := ensureSeed(filepath.Join(dir, "platform.seed"))
	if err != nil {
		return err
	}
	vendor, err := simulated.New(seed)
	if err != nil {
		return err
	}
	proxyKey, err := ensureKey(filepath.Join(dir, "proxy.key"))
	if err != nil {
		return err
	}
	clientKey, err := ensureKey(filepath.Join(dir, "client.key"))
	if err != nil {
		return err
	}
	// Owners of a network without a chain are names only.
	owner := func(name string) cocoon.Address {
		key := proxyKey.Public()
		return cocoon.Address{Hash: sha256.Sum256(append([]byte("cocoon/development owner/"+name+"\x00"), key[:]...))}
	}
	clientWallet, err := bindings.WalletAddress(clientKey.Public(), owner("client"))
	if err != nil {
		return err
	}
	model := cocoon.ModelName(demo.FullName())
	if n.cfg.Engine != "demo" {
		model = cocoon.ModelName(n.cfg.Model)
	}

	// Sockets first: the root configuration names the proxy's address.
	fixed := func(port string) string {
		host, p, _ := net.SplitHostPort(n.cfg.Listen)
		if p == "0" {
			port = "0"
		}
		if host == "" {
			host = "127.0.0.1"
		}
		return net.JoinHostPort("127.0.0.1", port)
	}
	proxyChild := n.child("proxy", "proxy")
	for _, s := range [][2]string{{"workers", "11001"}, {"clients", "11002"}, {"status", "11000"}} {
		if err := proxyChild.open(s[0], fixed(s[1])); err != nil {
			return err
		}
	}
	workers := make([]*child, n.cfg.Workers)
	for i := range workers {
		workers[i] = n.child("worker", fmt.Sprintf("worker-%d", i+1))
		if err := workers[i].open("status", fixed(fmt.Sprint(12000+10*i))); err != nil {
			return err
		}
	}
	client := n.child("client", "client")
	if err := client.open("gateway", n.cfg.Listen); err != nil {
		return err
	}
	if err := client.open("status", fixed("10001")); err != nil {
		return err
	}

	root := filepath.Join(dir, "root.json")
	rootAddress := owner("root")
	if err := n.writeRoot(root, rootAddress, model, proxyChild); err != nil {
		return err
	}

	base := func(c *child) Config {
		cfg := Default()
		cfg.Role = c.role
		cfg.Measured = Measured{
			GlobalID: devGlobalID, RootContract: rootAddress.String(), RootFile: root, IsTest: true,
			Evidence: string(attest.Simulated), Accept: []string{string(attest.Simulated)}, SimulatedRoot: vendor.RootKeyID().String(),
		}
		cfg.Runtime.Dir = filepath.Join(dir, c.name)
		cfg.Runtime.Status = c.addr("status")
		cfg.Runtime.SimulatedSeed = filepath.Join(dir, "platform.seed")
		cfg.Runtime.SimulatedMachine = c.name
		cfg.Runtime.PowDifficulty = devDifficulty
		return cfg
	}
	pc := base(proxyChild)
	pc.Measured.SimulatedImage = simProxyImage
	pc.Runtime.KeyFile = filepath.Join(dir, "proxy.key")
	pc.Runtime.Owner = owner("proxy").String()
	pc.Runtime.ListenWorkers, pc.Runtime.ListenClients = proxyChild.addr("workers"), proxyChild.addr("clients")
	configs := map[*child]Config{proxyChild: pc}
	for i, c := range workers {
		wc := base(c)
		wc.Measured.SimulatedImage = simWorkImage
		wc.Measured.Engine, wc.Measured.Model = n.cfg.Engine, string(model)
		wc.Runtime.Owner = owner(fmt.Sprintf("worker %d", i+1)).String()
		configs[c] = wc
	}
	cc := base(client)
	cc.Measured.Evidence = string(attest.None) // clients attest to nobody
	cc.Runtime.Listen = client.addr("gateway")
	cc.Runtime.Owner = clientWallet.String()
	configs[client] = cc
	for c, cfg := range configs {
		if err := os.MkdirAll(cfg.Runtime.Dir, 0o700); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := cfg.Write(&b); err != nil {
			return err
		}
		c.config = filepath.Join(dir, c.name+".toml")
		if err := writeFile(c.config, b.Bytes(), 0o600); err != nil {
			return err
		}
	}
	n.state = State{Gateway: "http://" + client.addr("gateway"), Pid: os.Getpid(), Simulated: true}
	return nil
}

// writeRoot writes the root configuration: what the network's root contract
// would list.
func (n *network) writeRoot(path string, owner cocoon.Address, model cocoon.ModelName, proxy *child) error {
	hash := func(image string) string {
		h := simulated.Image(image).Hash()
		return base64.StdEncoding.EncodeToString(h[:])
	}
	b, err := json.MarshalIndent(map[string]any{
		"proxy_hashes":  []string{hash(simProxyImage)},
		"worker_hashes": []string{hash(simWorkImage)},
		"model_hashes":  []string{base64.StdEncoding.EncodeToString(modelHash(model))},
		"model_types":   []string{},
		"registered_proxies": []map[string]any{
			{"seqno": 1, "address": proxy.addr("workers") + " " + proxy.addr("clients")},
		},
		"price_per_token": devPrice, "worker_fee_per_token": devFee,
		"last_proxy_seqno": 1, "version": 1, "params_version": 1,
		"proxy_sc_code": "", "worker_sc_code": "", "client_sc_code": "",
		"root_owner_address": owner.String(),
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'), 0o600)
}

func modelHash(m cocoon.ModelName) []byte {
	h := sha256.Sum256([]byte(m))
	return h[:]
}

// run starts the children, waits until the network answers, and keeps it so.
func (n *network) run(ctx context.Context) error {
	start := time.Now()
	// Children live a little longer than ctx: they are stopped in order.
	childCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(childCtx)
	changed := make(chan struct{}, 1)
	for _, c := range n.children {
		c.changed = changed
		g.Go(func() error { return c.supervise(gctx) })
	}
	g.Go(func() error { return n.publish(gctx, changed) })

	err := n.waitReady(ctx, gctx)
	if err == nil {
		n.cfg.Progress("ready after %.1f s: %d processes, %d worker(s), engine %s", time.Since(start).Seconds(), len(n.children), n.cfg.Workers, n.cfg.Engine)
		if n.cfg.Ready != nil {
			n.cfg.Ready(n.snapshot())
		}
		select {
		case <-ctx.Done():
		case <-gctx.Done():
		}
	}
	// The client first, so that no request is taken that nobody will serve.
	for i := len(n.children) - 1; i >= 0; i-- {
		n.children[i].stop()
	}
	stop()
	if werr := g.Wait(); err == nil && ctx.Err() == nil {
		err = werr
	}
	if rerr := os.Remove(filepath.Join(n.cfg.Dir, stateFile)); err == nil && rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	return err
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
	s := n.state
	s.Children = nil
	for _, c := range n.children {
		pid, restarts := c.now()
		s.Children = append(s.Children, Child{Name: c.name, Role: c.role, Pid: pid, Status: "http://" + c.addr("status"), Restarts: restarts})
	}
	return s
}

// readyLimit is how long a network may take to answer.
const readyLimit = 60 * time.Second

// waitReady waits until the gateway lists a model that a live worker serves.
func (n *network) waitReady(ctx, children context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("the network was not ready within %v; the logs in %s say why", readyLimit, filepath.Join(n.cfg.Dir, "logs")))
	defer cancel()
	steps := make([]string, 0, len(n.children))
	for _, c := range n.children {
		steps = append(steps, c.name)
	}
	n.cfg.Progress("starting %s", strings.Join(steps, ", "))
	client := &http.Client{Timeout: 15 * time.Second}
	for {
		if err := probe(ctx, client, n.state.Gateway+"/v1/models", `"id"`); err == nil {
			return nil
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

func ensureSeed(path string) ([]byte, error) {
	b, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	b = make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	return b, writeFile(path, b, 0o600)
}

func ensureKey(path string) (wallet.Key, error) {
	key, err := wallet.ReadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = wallet.NewKey()
	return key, wallet.WriteKeyFile(path, key)
}

func (n *network) closeSockets() {
	for _, c := range n.children {
		c.closeSockets()
	}
}
