package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
	"golang.org/x/sync/errgroup"
)

const (
	// asked is how many servers are asked at once for the newest head.
	asked = 3
	// grace is how long the first fresh head waits for a newer one.
	grace = 150 * time.Millisecond
	// longPoll is the wait for a new block asked of a server.
	longPoll = 8 * time.Second
	// lagLimit is how far, in block time, a server may be behind the newest
	// head.
	lagLimit = 20 * time.Second
	// keptBlocks is how many proven blocks are remembered.
	keptBlocks = 256
	// longWay is the number of blocks beyond which a proof has many links.
	longWay = 1 << 16
	// maxLinks bounds a chain of proofs; a link spans the time of one set of
	// validators, at least.
	maxLinks = 1 << 16
)

// Block is a proven masterchain block.
type Block struct {
	Seqno              uint32
	RootHash, FileHash [32]byte
	Time               time.Time
}

func (h header) block() Block {
	return Block{Seqno: h.id.seqno, RootHash: h.id.root, FileHash: h.id.file, Time: h.time}
}

// Client reads one chain.
type Client struct {
	cfg     Config
	trust   trust
	servers []*server
	sync    chan struct{} // one place: whoever proves a long way holds it

	mu       sync.Mutex
	store    *store
	base     blockID // newest proven key block, where proofs start
	head     header  // newest proven block; seqno 0 = none yet
	descends bool    // head was shown to descend from the zero state
	recent   []header
	config   configCache

	// background are queries that outlive the call that began them.
	background sync.WaitGroup
}

// Open reads the configuration and proves a first head, which it needs at
// least one honest server for. It fails with ErrConfig, ErrNoInitBlock,
// ErrStale, ErrRollback, or ErrNoServer wrapping what each server did.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	t, servers, err := cfg.prepare()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, trust: t, base: t.init, sync: make(chan struct{}, 1)}
	for _, s := range servers {
		c.servers = append(c.servers, &server{Server: s, cfg: &c.cfg})
	}
	if c.store, err = openStore(&c.cfg, t); err != nil {
		return nil, err
	}
	if c.store.checkpoint.seqno > 0 {
		c.base = c.store.checkpoint
	}
	if _, err := c.Head(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends all connections and waits for what is under way.
func (c *Client) Close() error {
	for _, s := range c.servers {
		s.close()
	}
	c.background.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.flush()
}

// Head asks several servers for their newest block, proves it and returns the
// newest of all known. It is never older than one returned before and at most
// MaxAge old (ErrStale).
func (c *Client) Head(ctx context.Context) (Block, error) {
	h, err := c.headHeader(ctx)
	return h.block(), err
}

func (c *Client) headHeader(ctx context.Context) (header, error) {
	err := c.refresh(ctx)
	if ctx.Err() != nil {
		return header{}, ctx.Err()
	}
	h := c.newest()
	if h.id.seqno == 0 {
		return header{}, err
	}
	if age := c.cfg.Now().Sub(h.time); age > c.cfg.MaxAge {
		stale := noted(ErrStale, fmt.Sprintf("block %d is %s old, %s are allowed (is the clock right?)", h.id.seqno, age.Round(time.Second), c.cfg.MaxAge))
		if err != nil {
			return header{}, &joined{head: stale, causes: []error{err}}
		}
		return header{}, stale
	}
	return h, nil
}

// LastHead returns the newest proven head without asking anybody. It may be
// of any age.
func (c *Client) LastHead() Block { return c.newest().block() }

func (c *Client) newest() header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head
}

// refresh lets the best servers report their heads. It returns when one has
// given a proven head and the others had a moment to give a newer one, or when
// all have failed.
func (c *Client) refresh(ctx context.Context) error {
	var tried []*server
	var failures []error
	for {
		batch := c.pick(asked, tried)
		if len(batch) == 0 {
			return noServer(failures)
		}
		tried = append(tried, batch...)
		results := make(chan error, len(batch))
		for _, s := range batch {
			// A slow server is judged by the full timeout, though nobody waits
			// for it that long.
			c.background.Go(func() {
				results <- c.poll(context.WithoutCancel(ctx), s)
			})
		}
		var enough <-chan time.Time
		served := false
	wait:
		for range batch {
			select {
			case err := <-results:
				if err != nil {
					failures = append(failures, err)
				} else if !served {
					served = true
					enough = time.After(grace)
				}
			case <-enough:
				break wait
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if served {
			return nil
		}
	}
}

func noServer(failures []error) error {
	if len(failures) == 0 {
		return fmt.Errorf("%w: all are left out for now", ErrNoServer)
	}
	return &joined{head: ErrNoServer, causes: failures}
}

// pick returns up to n servers that may be asked, fastest first, without
// those in not. When no server in good standing is left, those left out for
// other reasons than a lie are a last resort.
func (c *Client) pick(n int, not []*server) []*server {
	type choice struct {
		s       *server
		latency time.Duration
	}
	var good, rest []choice
	for _, s := range c.servers {
		if slices.Contains(not, s) {
			continue
		}
		usable, lastResort, latency := s.standing()
		switch {
		case usable:
			good = append(good, choice{s, latency})
		case lastResort:
			rest = append(rest, choice{s, latency})
		}
	}
	from := good
	if len(from) == 0 {
		from = rest
	}
	slices.SortStableFunc(from, func(a, b choice) int { return cmp.Compare(a.latency, b.latency) })
	var out []*server
	for _, ch := range from[:min(n, len(from))] {
		out = append(out, ch.s)
	}
	return out
}

// poll takes the server's newest head and proves it if it is news.
func (c *Client) poll(ctx context.Context, s *server) error {
	c.mu.Lock()
	first, floor := c.head.id.seqno == 0, c.store.mark.seqno
	c.mu.Unlock()
	var answer tl.Serializable
	var err error
	if first && floor > 0 {
		// A server a little behind what was seen before a restart gets time
		// to catch up.
		answer, err = s.queryWait(ctx, floor, c.cfg.Timeout, ton.GetMasterchainInf{})
		if notReady(err) {
			err = noted(ErrOldHead, fmt.Sprintf("it has not reached block %d", floor))
		}
	} else {
		answer, err = s.query(ctx, ton.GetMasterchainInf{})
	}
	return c.settle(s, c.takeHead(ctx, s, answer, err))
}

// pollNext waits for the server to have a block after seqno and proves it.
func (c *Client) pollNext(ctx context.Context, s *server, seqno uint32) error {
	answer, err := s.queryWait(ctx, seqno+1, longPoll, ton.GetMasterchainInf{})
	if notReady(err) {
		return err // no news
	}
	return c.settle(s, c.takeHead(ctx, s, answer, err))
}

// settle books the outcome of a query on the server's account and names it.
func (c *Client) settle(s *server, err error) error {
	switch {
	case err == nil:
		s.good()
		return nil
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err // the caller's wish
	}
	err = &ServerError{Server: s.Address, Err: err}
	s.fail(errors.Unwrap(err))
	return err
}

func (c *Client) takeHead(ctx context.Context, s *server, answer tl.Serializable, err error) error {
	info, err := typed[ton.MasterchainInfo](answer, err)
	if err != nil {
		return err
	}
	if z := info.Init; z == nil || string(z.RootHash) != string(c.trust.zero.root[:]) || string(z.FileHash) != string(c.trust.zero.file[:]) {
		return noted(ErrWrongNetwork, fmt.Sprintf("its zero state is not %x…", c.trust.zero.root[:4]))
	}
	id, err := masterID(info.Last)
	if err != nil {
		return err
	}
	head := c.newest()
	if floor := c.floor(); head.id.seqno == 0 && id.seqno < floor {
		return noted(ErrOldHead, fmt.Sprintf("block %d, block %d was seen before", id.seqno, floor))
	}
	switch {
	case id == head.id:
		return nil
	case id.seqno == head.id.seqno:
		return noted(ErrFork, fmt.Sprintf("block %s, block %s is proven", id, head.id))
	case id.seqno < head.id.seqno:
		if lag := c.lag(id.seqno); lag > lagLimit {
			return noted(ErrLagging, fmt.Sprintf("at block %d by at least %s, block %d is proven", id.seqno, lag, head.id.seqno))
		}
		return nil
	}
	return c.proveHead(ctx, s, id)
}

// floor is the number below which no head is accepted.
func (c *Client) floor() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.store.mark.seqno, c.head.id.seqno, c.base.seqno)
}

// lag is a lower bound of the time between block seqno and the head.
func (c *Client) lag(seqno uint32) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.recent {
		if h.id.seqno >= seqno {
			return c.head.time.Sub(h.time)
		}
	}
	return 0
}

// proveHead proves block id with links from s and makes it the head.
func (c *Client) proveHead(ctx context.Context, s *server, id blockID) error {
	base, descends, mark := c.start()
	if id.seqno-base.seqno > longWay {
		// One server at a time, for all to profit from.
		select {
		case c.sync <- struct{}{}:
			defer func() { <-c.sync }()
		case <-ctx.Done():
			return ctx.Err()
		}
		if base, descends, mark = c.start(); c.newest().id.seqno >= id.seqno {
			return nil
		}
	}
	h, err := c.prove(ctx, s, base, id)
	if err != nil {
		return err
	}
	if !descends {
		if err := c.proveOrigin(ctx, s, h, mark); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.descends && h.globalID != c.head.globalID {
		return noted(ErrForged, fmt.Sprintf("block %s has the global id %d, the chain %d", h.id, h.globalID, c.head.globalID))
	}
	c.descends = true
	c.keepLocked(h)
	if h.id.seqno > c.head.id.seqno {
		c.head = h
		if err := c.store.raise(h.id, c.base); err != nil {
			c.cfg.Logger.Warn("chain state not kept", "reason", err)
		}
	}
	return nil
}

// start is where a proof of a new head begins.
func (c *Client) start() (base blockID, descends bool, mark blockID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base, c.descends, c.store.mark
}

// proveOrigin shows, once, that the chain of h begins with the configured zero
// state and contains the block that was newest before the restart.
func (c *Client) proveOrigin(ctx context.Context, s *server, h header, mark blockID) error {
	if err := c.proveZeroState(ctx, s, h); errors.Is(err, ErrFork) {
		return noted(ErrWrongNetwork, fmt.Sprintf("init block %d and the zero state are of different chains: %v", c.trust.init.seqno, err))
	} else if err != nil {
		return err
	}
	if mark.seqno == 0 {
		return nil
	}
	was, err := c.proveSeqno(ctx, s, h, mark.seqno)
	if errors.Is(err, ErrRefused) {
		// Servers keep blocks for days only. That the number does not go back
		// is certain anyway.
		c.cfg.Logger.Info("high-water mark not compared, the server no longer has the block", "server", s.Address, "block", mark.seqno)
		return nil
	}
	if err != nil {
		return err
	}
	if was.id != mark {
		return noted(ErrRollback, fmt.Sprintf("block %s is in %s, the chain has %s (if the network was begun anew, delete that file)", mark, c.store.markPath, was.id))
	}
	return nil
}

// proveZeroState shows that the chain of h begins with the configured zero
// state: by the list of earlier blocks in the state of h, or, where a server
// does not give that, by the reference of block 1 to what is before it.
func (c *Client) proveZeroState(ctx context.Context, s *server, h header) error {
	zero := blockID{root: c.trust.zero.root, file: c.trust.zero.file}
	_, err := c.prove(ctx, s, h.id, zero)
	if !errors.Is(err, ErrRefused) {
		return err
	}
	first, err := c.proveSeqno(ctx, s, h, 1)
	if err != nil {
		return err
	}
	answer, err := ask[ton.BlockHeader](ctx, s, ton.GetBlockHeader{ID: first.id.ext()})
	if err != nil {
		return err
	}
	_, err = guarded(func() (header, error) { return checkFirst(answer.HeaderProof, first.id, zero) })
	return err
}

// keepLocked remembers a proven block.
func (c *Client) keepLocked(h header) {
	i, found := slices.BinarySearchFunc(c.recent, h.id.seqno, func(k header, seqno uint32) int { return cmp.Compare(k.id.seqno, seqno) })
	if !found {
		c.recent = slices.Insert(c.recent, i, h)
	}
	if len(c.recent) > keptBlocks {
		c.recent = slices.Delete(c.recent, 0, 1)
	}
}

func (c *Client) known(seqno uint32) (header, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, found := slices.BinarySearchFunc(c.recent, seqno, func(k header, seqno uint32) int { return cmp.Compare(k.id.seqno, seqno) })
	if !found {
		return header{}, false
	}
	return c.recent[i], true
}

// prove follows links from the proven block from to the block to. Key blocks
// on the way become the base of later proofs.
func (c *Client) prove(ctx context.Context, s *server, from, to blockID) (header, error) {
	if from == to {
		answer, err := ask[ton.BlockHeader](ctx, s, ton.GetBlockHeader{ID: to.ext()})
		if err != nil {
			return header{}, err
		}
		return guarded(func() (header, error) { return checkHeader(answer.HeaderProof, to) })
	}
	if from.seqno == to.seqno {
		return header{}, noted(ErrFork, fmt.Sprintf("block %s, block %s is proven", to, from))
	}
	var last header
	links := 0
	for at := from; at != to; {
		part, err := ask[ton.PartialBlockProof](ctx, s, ton.GetBlockProof{Mode: 1, KnownBlock: at.ext(), TargetBlock: to.ext()})
		if err != nil {
			return header{}, err
		}
		if links += len(part.Steps); len(part.Steps) == 0 || links > maxLinks {
			return header{}, noted(ErrForged, fmt.Sprintf("the chain of proofs from block %s to %s does not end", from, to))
		}
		begin := at
		headers, err := checkLinks(at, part.Steps)
		if err != nil {
			return header{}, err
		}
		c.mu.Lock()
		for _, h := range headers {
			if h.key && h.id.seqno > c.base.seqno {
				c.base = h.id
			}
		}
		c.mu.Unlock()
		last = headers[len(headers)-1]
		at = last.id
		if links > len(part.Steps) || at != to {
			c.cfg.Logger.Info("proving the chain", "block", at.seqno, "of", to.seqno)
		}
		if distance(at, to) >= distance(begin, to) {
			return header{}, noted(ErrForged, fmt.Sprintf("the chain of proofs from block %s to %s does not come nearer", from, to))
		}
	}
	return last, nil
}

func distance(a, b blockID) uint32 {
	return max(a.seqno, b.seqno) - min(a.seqno, b.seqno)
}

// checkLinks verifies a chain of links that must begin at the proven block at.
// A link is a statement about two blocks, so all can be checked at once.
func checkLinks(at blockID, steps []any) ([]header, error) {
	headers := make([]header, len(steps))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, step := range steps {
		begins, ends, check, err := link(at, step)
		if err != nil {
			return nil, errors.Join(err, g.Wait())
		}
		if begins != at {
			return nil, errors.Join(noted(ErrForged, fmt.Sprintf("a link begins at block %s, not %s", begins, at)), g.Wait())
		}
		g.Go(func() (err error) {
			headers[i], err = guarded(check)
			return err
		})
		at = ends
	}
	return headers, g.Wait()
}

// link reads where a step begins and ends, and how it is checked.
func link(at blockID, step any) (begins, ends blockID, check func() (header, error), err error) {
	var from, to *ton.BlockIDExt
	switch l := step.(type) {
	case ton.BlockLinkForward:
		from, to, check = l.From, l.To, func() (header, error) { return checkForward(at, &l) }
	case ton.BlockLinkBackward:
		from, to, check = l.From, l.To, func() (header, error) { return checkBackward(at, &l) }
	default:
		return begins, ends, nil, noted(ErrMalformed, fmt.Sprintf("link of type %T", step))
	}
	if begins, err = masterID(from); err == nil {
		ends, err = masterID(to)
	}
	return begins, ends, check, err
}

// guarded runs a check of foreign data.
func guarded[T any](check func() (T, error)) (_ T, err error) {
	defer guard(&err)
	return check()
}

// proveSeqno proves which block has number seqno in the chain of the proven
// block h.
func (c *Client) proveSeqno(ctx context.Context, s *server, h header, seqno uint32) (header, error) {
	if seqno == h.id.seqno {
		return h, nil
	}
	found, err := ask[ton.BlockHeader](ctx, s, ton.LookupBlock{Mode: 1, ID: &ton.BlockInfoShort{Workchain: masterchain, Shard: fullShard, Seqno: int32(seqno)}})
	if err != nil {
		return header{}, err
	}
	id, err := masterID(found.ID)
	if err != nil {
		return header{}, err
	}
	if id.seqno != seqno {
		return header{}, noted(ErrForged, fmt.Sprintf("block %d is given for block %d", id.seqno, seqno))
	}
	return c.prove(ctx, s, h.id, id)
}

// each asks one server after the other until one serves.
func (c *Client) each(ctx context.Context, do func(*server) error) error {
	var tried []*server
	var failures []error
	for {
		next := c.pick(1, tried)
		if len(next) == 0 {
			return noServer(failures)
		}
		tried = append(tried, next...)
		err := do(next[0])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err = c.settle(next[0], err); err == nil {
			return nil
		}
		failures = append(failures, err)
	}
}

// Next waits until a block after seqno is proven and returns it.
func (c *Client) Next(ctx context.Context, seqno uint32) (Block, error) {
	for idle := 0; ; idle++ {
		if h := c.newest(); h.id.seqno > seqno {
			return h.block(), nil
		}
		begin := time.Now()
		race, cancel := context.WithCancel(ctx)
		batch := c.pick(asked, nil)
		results := make(chan error, len(batch))
		for _, s := range batch {
			c.background.Go(func() { results <- c.pollNext(race, s, seqno) })
		}
		for range batch {
			select {
			case <-results:
			case <-ctx.Done():
			}
			if ctx.Err() != nil || c.newest().id.seqno > seqno {
				break
			}
		}
		cancel()
		if ctx.Err() != nil {
			return Block{}, ctx.Err()
		}
		if c.newest().id.seqno <= seqno && time.Since(begin) < longPoll/2 {
			// Nobody serves, or somebody answers without waiting: do not spin.
			select {
			case <-time.After(backoff(faultBase/4, faultMax/6, idle)):
			case <-ctx.Done():
				return Block{}, ctx.Err()
			}
		}
	}
}

// Follow yields each newly proven head until ctx ends, then closes the
// channel. A slow reader misses blocks in between, never the newest.
func (c *Client) Follow(ctx context.Context) <-chan Block {
	out := make(chan Block, 1)
	go func() {
		defer close(out)
		last := uint32(0)
		for {
			b, err := c.Next(ctx, last)
			if err != nil {
				return
			}
			last = b.Seqno
			select { // make room for the newer one
			case <-out:
			default:
			}
			out <- b
		}
	}()
	return out
}

// LookupBlock proves which block has number seqno. A number beyond the head is
// waited for until ctx ends (ErrUnknownBlock).
func (c *Client) LookupBlock(ctx context.Context, seqno uint32) (Block, error) {
	if seqno == 0 {
		return Block{}, fmt.Errorf("%w: number 0 is the zero state", ErrUnknownBlock)
	}
	if h := c.newest(); seqno > h.id.seqno {
		if _, err := c.Next(ctx, seqno-1); err != nil {
			return Block{}, noted(ErrUnknownBlock, fmt.Sprintf("block %d, the newest is %d", seqno, c.newest().id.seqno))
		}
	}
	if h, ok := c.known(seqno); ok {
		return h.block(), nil
	}
	head := c.newest()
	var found header
	err := c.each(ctx, func(s *server) (err error) {
		found, err = c.proveSeqno(ctx, s, head, seqno)
		return err
	})
	if err != nil {
		return Block{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepLocked(found)
	return found.block(), nil
}

// NetworkInfo names the chain.
type NetworkInfo struct {
	GlobalID          int32
	ZeroStateRootHash [32]byte
	ZeroStateFileHash [32]byte
}

// Network returns the proven identity of the chain.
func (c *Client) Network() NetworkInfo {
	return NetworkInfo{GlobalID: c.newest().globalID, ZeroStateRootHash: c.trust.zero.root, ZeroStateFileHash: c.trust.zero.file}
}
