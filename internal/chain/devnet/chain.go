//go:build !tee

package devnet

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/liteclient"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// DefaultGlobalID is the network's global id unless Config names another.
// Mainnet's and testnet's are refused: messages signed here would be valid
// there.
const DefaultGlobalID int32 = -4242

const (
	mainnetGlobalID int32 = -239
	testnetGlobalID int32 = -3
)

// Config says how the chain runs. The zero value of a field means what its
// comment says; Dir is the only one that must be set.
type Config struct {
	// Dir keeps the chain: genesis, block log, state snapshot, and the global
	// configuration file for clients. It is created if need be, and one
	// process uses it at a time.
	Dir string
	// Listen is the liteserver's TCP address; empty means 127.0.0.1:0. Port 0
	// is the one used last if it is free, or else any.
	Listen string
	// Listener is a socket that is open already and wins over Listen. The chain
	// takes it over.
	Listener net.Listener
	// GlobalID is the network's global id; 0 means DefaultGlobalID. A
	// directory keeps the one it was created with.
	GlobalID int32
	// Tick is the time between blocks while there is work, at least 20 ms; 0
	// makes a block as soon as a message arrives.
	Tick time.Duration
	// Idle is the time between blocks when there is no work; 0 means a second.
	Idle time.Duration
	// MaxTransactions bounds a block; 0 means 1000, and more than 2000 would
	// not fit what clients read.
	MaxTransactions int
	// MaxHops bounds how often a message sent in a block leads to another in
	// the same block; later ones wait for the next. 0 means no bound.
	MaxHops int
	// KeepStates is the number of masterchain blocks whose state can be
	// asked; 0 means 256.
	KeepStates int
	// KeepBlocks and KeepFor say what is kept on disk: a masterchain block is
	// deleted, with what it registers, after that many later blocks and that
	// much later time, whichever is more; or some time afterwards, for they are
	// deleted in bulk. 0 means 100,000 (or KeepStates if that is more) and a
	// day. The key block stays for good.
	KeepBlocks int
	KeepFor    time.Duration
	// SnapshotEvery is the number of masterchain blocks between state
	// snapshots; 0 means 4096.
	SnapshotEvery uint32
	// Balances are accounts of workchain 0 that exist from the start, without
	// code. Libraries are the BoCs of public libraries. Both count only when
	// Dir is created.
	Balances  map[cocoon.Address]coins.Nano
	Libraries [][]byte
	// SelfCheck verifies every block before it is shown: bytes, header, Merkle
	// update. The value flow is verified in any case.
	SelfCheck bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what happens; nil discards it.
	Logger *slog.Logger

	testOnlyStep func(string) // called after each change of the disk
}

// Validate fills in what is unset and names what cannot be.
func (c *Config) Validate() error {
	set := func(p *int, def int) {
		if *p == 0 {
			*p = def
		}
	}
	set(&c.MaxTransactions, 1000)
	set(&c.KeepStates, 256)
	set(&c.KeepBlocks, max(100_000, c.KeepStates))
	if c.KeepFor == 0 {
		c.KeepFor = 24 * time.Hour
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = 4096
	}
	if c.GlobalID == 0 {
		c.GlobalID = DefaultGlobalID
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Idle == 0 {
		c.Idle = time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Dir == "":
		return errors.New("devnet: Dir is not set")
	case c.GlobalID == mainnetGlobalID || c.GlobalID == testnetGlobalID:
		return fmt.Errorf("devnet: global id %d belongs to a real network; choose another", c.GlobalID)
	case c.Tick != 0 && c.Tick < 20*time.Millisecond:
		return fmt.Errorf("devnet: tick %v is below 20ms", c.Tick)
	case c.Idle < 20*time.Millisecond:
		return fmt.Errorf("devnet: idle %v is below 20ms", c.Idle)
	case c.MaxTransactions < 1 || c.MaxTransactions > 2000:
		return fmt.Errorf("devnet: %d transactions in a block, 1 to 2000 are possible", c.MaxTransactions)
	case c.MaxHops < 0 || c.KeepStates < 16:
		return errors.New("devnet: MaxHops is negative or KeepStates below 16")
	case c.KeepBlocks < c.KeepStates || c.KeepFor < 0:
		return fmt.Errorf("devnet: KeepBlocks is %d, less than the %d of KeepStates, or KeepFor is negative", c.KeepBlocks, c.KeepStates)
	}
	return nil
}

// Chain is a running development chain.
type Chain struct {
	cfg    Config
	lock   *os.File
	server *server
	slots  chan struct{} // bounds how many queries are worked on at once
	faucet sync.Mutex    // one faucet transfer at a time: the wallet has a seqno

	mu     sync.RWMutex
	net    *network
	ahead  time.Duration // of the chain's clock before Config.Now
	closed bool
}

// Open creates or resumes the chain of cfg.Dir and binds the liteserver's
// port, so that GlobalConfig is final; Run answers there and makes blocks.
// Close releases what Open took if Run is never called.
func Open(cfg Config) (*Chain, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("devnet: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	c := &Chain{cfg: cfg, lock: lock, slots: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	if err := c.open(); err != nil {
		lock.Close()
		return nil, err
	}
	return c, nil
}

func (c *Chain) open() error {
	gen, err := loadGenesis(&c.cfg)
	if err != nil {
		return err
	}
	if c.net, err = openNetwork(&c.cfg, gen); err != nil {
		return err
	}
	removeOtherNetworks(c.net)
	// Time travel survives a restart: the clock goes on from the last block.
	if last := time.Unix(int64(c.net.head().utime), 0); last.After(c.cfg.Now()) {
		c.ahead = last.Sub(c.cfg.Now())
	}
	ln, err := c.listen()
	if err != nil {
		c.net.store.close()
		return fmt.Errorf("devnet: %w", err)
	}
	c.server = newServer(ln, c.net.gen.key("liteserver"), c.answer, c.cfg.Logger)
	if err := c.writeGlobalConfig(); err != nil {
		ln.Close()
		c.net.store.close()
		return err
	}
	return nil
}

// listen binds the port. Clients that know the address from before find it
// again where that is possible.
func (c *Chain) listen() (net.Listener, error) {
	if c.cfg.Listener != nil {
		return c.cfg.Listener, nil
	}
	if host, port, err := net.SplitHostPort(c.cfg.Listen); err == nil && port == "0" {
		if last := lastPort(c.cfg.Dir); last != 0 {
			if ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(last))); err == nil {
				return ln, nil
			}
		}
	}
	return net.Listen("tcp", c.cfg.Listen)
}

// lastPort is the port in the directory's global configuration, 0 if there is
// none.
func lastPort(dir string) int {
	b, err := os.ReadFile(GlobalConfigPath(dir))
	if err != nil {
		return 0
	}
	var cfg liteclient.GlobalConfig
	if json.Unmarshal(b, &cfg) != nil || len(cfg.Liteservers) == 0 || cfg.Liteservers[0].Port>>16 != 0 {
		return 0
	}
	return cfg.Liteservers[0].Port
}

func genesisPath(dir string) string { return filepath.Join(dir, "genesis.json") }

// loadGenesis reads the directory's genesis or makes one.
func loadGenesis(cfg *Config) (*genesis, error) {
	b, err := os.ReadFile(genesisPath(cfg.Dir))
	if err == nil {
		return parseGenesis(b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("devnet: %w", err)
	}
	g, err := newGenesis(*cfg)
	if err != nil {
		return nil, err
	}
	return g, storeGenesis(cfg.Dir, g)
}

func storeGenesis(dir string, g *genesis) error {
	b, err := g.marshal()
	if err != nil {
		return fmt.Errorf("devnet: genesis: %w", err)
	}
	if err := writeFile(genesisPath(dir), b); err != nil {
		return fmt.Errorf("devnet: genesis: %w", err)
	}
	return nil
}

// removeOtherNetworks deletes what an earlier network of this directory left
// when it was replaced.
func removeOtherNetworks(n *network) {
	entries, _ := os.ReadDir(n.dir)
	for _, e := range entries {
		path := filepath.Join(n.dir, e.Name())
		ours := strings.HasPrefix(path, n.logStem()+"-") && strings.HasSuffix(path, ".log") || path == n.snapshotPath()
		if !ours && (strings.HasPrefix(e.Name(), "blocks-") || strings.HasPrefix(e.Name(), "state-")) {
			os.Remove(path)
		}
	}
}

// Run makes blocks and answers clients until ctx ends or the chain cannot be
// stored any more. It returns after everything has stopped and is on disk.
func (c *Chain) Run(ctx context.Context) error {
	c.cfg.Logger.Info("SIMULATED: a development chain; its coins are worthless",
		"global_id", c.GlobalID(), "listen", c.server.addr().String(), "head", c.Head().Seqno)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.server.run(ctx) })
	g.Go(func() error { return c.makeBlocks(ctx) })
	err := g.Wait()
	return errors.Join(err, c.Close())
}

// Close writes the state and releases the directory and the port. Run does it
// itself when it ends.
func (c *Chain) Close() error {
	c.mu.Lock()
	n, again := c.net, c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	return errors.Join(c.server.close(), n.close(), c.lock.Close())
}

// makeBlocks is the clock: a block at the start, one per tick while there is
// work, an idle one now and then.
func (c *Chain) makeBlocks(ctx context.Context) error {
	idle := time.NewTimer(0)
	defer idle.Stop()
	var tick <-chan time.Time
	if c.cfg.Tick > 0 {
		t := time.NewTicker(c.cfg.Tick)
		defer t.Stop()
		tick = t.C
	}
	for {
		n := c.current()
		var wake, more <-chan struct{}
		if tick == nil {
			wake = n.pool.wake
			if n.hasWaiting() || n.pool.len() > 0 {
				more = ready
			}
		}
		isIdle := false
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		case <-wake:
		case <-more:
		case <-idle.C:
			isIdle = true
		}
		made, err := n.produce(c.now(), isIdle)
		if err != nil {
			if c.current() != n {
				continue // reverted meanwhile
			}
			return err
		}
		if made || isIdle {
			idle.Reset(c.cfg.Idle)
		}
	}
}

var ready = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

func (c *Chain) current() *network {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.net
}

// now is the chain's clock in seconds.
func (c *Chain) now() uint32 { return uint32(c.Now().Unix()) }

// Now is the chain's clock: Config.Now plus what Advance added.
func (c *Chain) Now() time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cfg.Now().Add(c.ahead)
}

// Advance moves the chain's clock forward and makes a block then. Signed
// messages whose lifetime is reckoned by another clock expire.
func (c *Chain) Advance(d time.Duration) error {
	if d < 0 {
		return errors.New("devnet: time on a chain does not go back")
	}
	c.mu.Lock()
	c.ahead += d
	c.mu.Unlock()
	return c.Mine()
}

// Mine makes a block now, whether there is work or not. Run need not be
// running.
func (c *Chain) Mine() error {
	_, err := c.current().produce(c.now(), true)
	return err
}

// GlobalID is the network's global id, configuration parameter 19.
func (c *Chain) GlobalID() int32 { return c.current().gen.globalID }

// Head names the newest masterchain block.
type Head struct {
	Seqno    uint32
	RootHash [32]byte
	FileHash [32]byte
	Time     time.Time
}

// Head returns the newest masterchain block.
func (c *Chain) Head() Head {
	b, _ := c.current().latest()
	return Head{b.seqno(), b.ref.root, b.ref.file, time.Unix(int64(b.utime), 0)}
}

// Addr is the liteserver's address.
func (c *Chain) Addr() net.Addr { return c.server.addr() }

// SendExternal queues a serialised external message for the next block, after
// trying it on the newest state: a message that its destination does not
// accept now is an error.
func (c *Chain) SendExternal(boc []byte) error {
	return c.current().sendExternal(boc, c.now())
}

// GlobalConfig is the network's configuration for clients, in the JSON form
// all TON software reads.
func (c *Chain) GlobalConfig() []byte {
	n := c.current()
	addr := c.server.addr().(*net.TCPAddr)
	ip := addr.IP.To4()
	if ip == nil || addr.IP.IsUnspecified() {
		ip = net.IPv4(127, 0, 0, 1).To4()
	}
	key := n.gen.key("liteserver").Public().(ed25519.PublicKey)
	id := func(r extRef) liteclient.ConfigBlock {
		return liteclient.ConfigBlock{
			Workchain: masterchain, Shard: wholeShard, SeqNo: r.seqno, RootHash: r.root[:], FileHash: r.file[:],
		}
	}
	cfg := liteclient.GlobalConfig{
		Type: "config.global",
		DHT:  liteclient.DHTConfig{Type: "dht.config.global", K: 6, A: 3, StaticNodes: liteclient.DHTNodes{Type: "dht.nodes", Nodes: []liteclient.DHTNode{}}},
		Liteservers: []liteclient.LiteserverConfig{{
			// Strict readers take a signed 32-bit number.
			IP: int64(int32(binary.BigEndian.Uint32(ip))), Port: addr.Port,
			ID: liteclient.ServerID{Type: "pub.ed25519", Key: encode64(key)},
		}},
		Validator: liteclient.ValidatorConfig{
			Type: "validator.config.global", ZeroState: id(n.zero.masterRef), InitBlock: id(n.key.ref),
			Hardforks: []liteclient.ConfigBlock{},
		},
	}
	b, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil {
		panic(err) // plain data
	}
	return b
}

// GlobalConfigPath is where Open wrote GlobalConfig.
func (c *Chain) GlobalConfigPath() string { return GlobalConfigPath(c.cfg.Dir) }

// GlobalConfigPath is where the chain of a directory leaves its GlobalConfig.
func GlobalConfigPath(dir string) string { return filepath.Join(dir, "global.config.json") }

func (c *Chain) writeGlobalConfig() error {
	if err := writeFile(c.GlobalConfigPath(), append(c.GlobalConfig(), '\n')); err != nil {
		return fmt.Errorf("devnet: global configuration: %w", err)
	}
	return nil
}
