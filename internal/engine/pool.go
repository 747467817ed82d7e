package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Source is one engine of a Pool.
type Source struct {
	Config
	// Process, if set, is started and kept running while the source is used.
	Process *Process
	// Slots is how many requests it takes at one time; 0 = what the engine
	// tells, and no bound of the pool's if it tells nothing.
	Slots int
}

// PoolConfig configures a Pool.
type PoolConfig struct {
	// Model is the name the engines serve the model by. An engine gets requests
	// once it made a token with it.
	Model string
	// Wait bounds how long a request waits for a place; 0 = 10 s.
	Wait time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Pool is several engines that serve one model, as one: requests go where most
// room is, wait their turn when there is none, and move on when an engine fails
// before it began to answer.
type Pool struct {
	cfg PoolConfig

	mu      sync.Mutex
	members []*member
	waiting []*waiter
	why     string // why nothing is ready yet, if there is more to say than the members do
	// start starts a member; nil while Run does not run.
	start func(*member)
}

// ErrBusy: no engine had a place in time.
var ErrBusy = errors.New("every engine is busy")

// member is one engine; all but what is set at the start is under Pool.mu.
type member struct {
	src  Source
	key  string // what makes two sources the same
	stop context.CancelFunc
	idle chan struct{} // closed when gone and nothing runs

	c       *Client // nil until its make is known
	up      bool
	leaving bool // left out by Set: used until another one is ready
	gone    bool // left out for good: finishes what it has
	err     error
	slots   int // 0 = not bounded
	running int
	load    Load
}

// waiter is a request that waits for a place.
type waiter struct {
	tried map[*member]bool
	got   chan *member
}

// Times of a pool. After hungAfter without an answer a process is restarted.
const (
	poolWait   = 10 * time.Second
	watchEvery = time.Second
	loadEvery  = 2 * time.Second
	watchLimit = 10 * time.Second
	hungAfter  = 60 * time.Second
)

// NewPool makes a Pool of the sources, which Run opens.
func NewPool(cfg PoolConfig, sources []Source) (*Pool, error) {
	if cfg.Wait <= 0 {
		cfg.Wait = poolWait
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pool{cfg: cfg}
	return p, p.Set(sources)
}

// Set changes the engines without dropping a request: those that stay go on,
// new ones are opened, and those left out go on until one of the others is
// ready, and finish what they have. A process that is left out ends at once,
// since there may be no room for another one beside it. An error changes
// nothing.
func (p *Pool) Set(sources []Source) error {
	if len(sources) == 0 {
		return errors.New("a worker needs an engine")
	}
	nan := math.NaN()
	var next []*member
	for _, s := range sources {
		if _, err := New(s.Config); err != nil {
			return err
		}
		next = append(next, &member{src: s, key: s.key(), idle: make(chan struct{}), err: errNotOpened, load: Load{nan, nan, nan, nan, nan}})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := map[string][]*member{}
	for _, m := range p.members {
		if !m.gone {
			old[m.key] = append(old[m.key], m)
		}
	}
	var kept []*member
	for i, m := range next {
		if same := old[m.key]; len(same) > 0 {
			next[i], old[m.key] = same[0], same[1:]
			next[i].leaving = false
		} else if p.start != nil {
			p.start(m)
		}
	}
	for _, left := range old {
		for _, m := range left {
			m.leaving = true
			if m.src.Process != nil {
				m.retire()
			}
			kept = append(kept, m)
		}
	}
	for _, m := range p.members {
		if m.gone && m.running > 0 && !slices.Contains(kept, m) {
			kept = append(kept, m) // left out before, not done yet
		}
	}
	p.members = append(next, kept...)
	p.relieveLocked()
	p.dispatchLocked()
	return nil
}

// relieveLocked lets those go that only stayed until another one is ready.
func (p *Pool) relieveLocked() {
	for _, m := range p.members {
		if !m.up || m.leaving || m.gone {
			continue
		}
		for _, x := range p.members {
			if x.leaving {
				x.retire()
			}
		}
		p.members = slices.DeleteFunc(slices.Clone(p.members), func(m *member) bool { return m.gone && m.running == 0 })
		return
	}
}

// retire: under Pool.mu.
func (m *member) retire() {
	m.gone = true
	m.settle()
}

var errNotOpened = fmt.Errorf("%w: it was not asked yet", ErrNotReady)

// key tells sources apart: the same engine started another way is another one.
func (s *Source) key() string {
	k := fmt.Sprintf("%s\x00%d", s.BaseURL, s.Slots)
	if s.Process != nil {
		k = fmt.Sprintf("%q\x00%d", s.Process.Args, s.Slots) + fmt.Sprintf("%q", s.Process.Env)
	}
	return k
}

func (m *member) name() string {
	if m.src.Process != nil {
		return m.src.Process.Name
	}
	return m.src.BaseURL
}

// settle: under Pool.mu.
func (m *member) settle() {
	if m.gone && m.running == 0 {
		select {
		case <-m.idle:
		default:
			close(m.idle)
		}
	}
}

// Run opens and watches the engines until ctx ends, then stops those that it
// started.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	p.mu.Lock()
	p.start = func(m *member) {
		mctx, stop := context.WithCancel(ctx)
		m.stop = stop
		wg.Go(func() {
			defer stop()
			p.keep(mctx, m)
		})
		wg.Go(func() { // the end of one that was left out
			select {
			case <-mctx.Done():
			case <-m.idle:
				stop()
			}
		})
	}
	for _, m := range p.members {
		p.start(m)
	}
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.start = nil
	p.mu.Unlock()
	wg.Wait()
	return ctx.Err()
}

// keep opens one engine, watches it, and starts over when it is gone.
func (p *Pool) keep(ctx context.Context, m *member) {
	var restart chan struct{}
	if m.src.Process != nil {
		restart = make(chan struct{}, 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.src.Process.Run(ctx, p.cfg.Logger, restart, func(err error) { p.set(m, nil, err) })
		}()
		defer func() { <-done }()
	}
	for ctx.Err() == nil {
		c, slots, err := p.open(ctx, m)
		if err == nil {
			if m.src.Process != nil {
				m.src.Process.serving.Store(true)
			}
			p.mu.Lock()
			m.c, m.slots = c, slots
			p.mu.Unlock()
			p.set(m, c, nil)
			p.cfg.Logger.Info("engine is ready", "engine", m.name(), "dialect", string(c.Dialect()), "slots", slots)
			p.watch(ctx, m, c, restart)
			c.Close()
			continue
		}
		p.set(m, nil, err)
		sleep(ctx, openPause)
	}
}

// open waits for an engine to answer and warms it up with one token.
func (p *Pool) open(ctx context.Context, m *member) (*Client, int, error) {
	cfg := m.src.Config
	if cfg.Logger == nil {
		cfg.Logger = p.cfg.Logger
	}
	c, err := openWith(ctx, cfg, func(err error) { p.set(m, nil, err) })
	if err != nil {
		return nil, 0, err
	}
	if err := c.Check(ctx, p.cfg.Model); err != nil {
		c.Close()
		if ctx.Err() == nil {
			p.cfg.Logger.Warn("the engine cannot be used", "engine", m.name(), "err", err)
		}
		return nil, 0, err
	}
	slots := m.src.Slots
	if slots == 0 {
		slots = c.Slots(ctx)
	}
	return c, slots, nil
}

// watch asks an engine how it is until it is gone. One that answers wrongly
// once may be back in a moment; two times in a row, it is opened anew.
func (p *Pool) watch(ctx context.Context, m *member, c *Client, restart chan struct{}) {
	var failing time.Time
	asked := time.Time{}
	for ctx.Err() == nil {
		probe, cancel := context.WithTimeoutCause(ctx, watchLimit, ErrTimeout)
		err := c.Ready(probe)
		if err == nil && time.Since(asked) > loadEvery {
			asked = time.Now()
			if l, lerr := c.Load(probe); lerr == nil {
				p.mu.Lock()
				m.load = l
				p.mu.Unlock()
			}
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if !failing.IsZero() {
				p.cfg.Logger.Info("engine is ready", "engine", m.name())
			}
			failing = time.Time{}
			p.set(m, c, nil)
		case failing.IsZero():
			failing = time.Now()
			p.set(m, c, err)
			p.cfg.Logger.Warn("engine is not ready", "engine", m.name(), "err", err)
		case errors.Is(err, ErrUnreachable):
			return
		case restart != nil && time.Since(failing) > hungAfter:
			p.cfg.Logger.Warn("restarting the engine: it does not answer", "engine", m.name())
			select {
			case restart <- struct{}{}:
			default:
			}
			return
		default:
			p.set(m, c, err)
		}
		pause := watchEvery
		if err != nil {
			pause /= 5
		}
		sleep(ctx, pause)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// set takes over what was found out about an engine.
func (p *Pool) set(m *member, c *Client, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.err, m.up = err, err == nil && c != nil
	p.relieveLocked()
	p.dispatchLocked()
}

// Hold says why no engine can be ready yet, such as files that are still being
// checked; "" = no reason but the engines' own.
func (p *Pool) Hold(why string) {
	p.mu.Lock()
	p.why = why
	p.mu.Unlock()
}

// Ready returns nil while some engine takes requests, else why none does.
func (p *Pool) Ready(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why != "" {
		return fmt.Errorf("%w: %s", ErrNotReady, p.why)
	}
	var first error
	for _, m := range p.members {
		switch {
		case m.gone:
		case m.up:
			return nil
		case first == nil && len(p.members) > 1:
			first = fmt.Errorf("%s: %w", m.name(), m.err)
		case first == nil:
			first = m.err
		}
	}
	return first
}

// Caps returns what every engine that is ready can do.
func (p *Pool) Caps() Caps {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, any := Caps{true, true, true, true, true, true}, false
	for _, m := range p.members {
		if !m.up || m.gone {
			continue
		}
		c := m.c.Caps()
		all = Caps{
			all.ContinuousUsage && c.ContinuousUsage, all.CachedTokens && c.CachedTokens, all.Schema && c.Schema,
			all.Tools && c.Tools, all.Embeddings && c.Embeddings, all.CacheSalt && c.CacheSalt,
		}
		any = true
	}
	if !any {
		return Caps{}
	}
	return all
}

// Capacity returns how many requests the engines that are ready work on at one
// time, 0 if that is not known, and whether they have more than they can do:
// engines that do not tell their capacity do tell that requests wait.
func (p *Pool) Capacity() (slots int, full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, any := true, false
	full = true
	for _, m := range p.members {
		if !m.up || m.gone {
			continue
		}
		any = true
		known = known && m.slots > 0
		slots += m.slots
		full = full && m.slots == 0 && m.load.Waiting > max(1, m.load.Running/4)
	}
	if !known {
		slots = 0
	}
	return slots, any && full
}

// MemberStat is one engine of a pool, for status pages.
type MemberStat struct {
	Engine   string `json:"engine"`
	Dialect  string `json:"dialect"`
	Ready    bool   `json:"is_ready"`
	Why      string `json:"why,omitempty"` // why it is not
	Running  int    `json:"running_requests"`
	Slots    int    `json:"slots"` // 0 = the engine does not tell
	Restarts int    `json:"restarts"`
	// What the engine says of itself; absent where it does not.
	EngineRunning *float64 `json:"engine_running,omitempty"`
	EngineWaiting *float64 `json:"engine_waiting,omitempty"`
	CacheUsage    *float64 `json:"cache_usage,omitempty"`
}

// Stats returns the engines now.
func (p *Pool) Stats() []MemberStat {
	told := func(v float64) *float64 {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return &v
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []MemberStat{}
	for _, m := range p.members {
		s := MemberStat{
			Engine: m.name(), Ready: m.up && !m.gone, Running: m.running, Slots: m.slots,
			EngineRunning: told(m.load.Running), EngineWaiting: told(m.load.Waiting), CacheUsage: told(m.load.Cache),
		}
		if m.c != nil {
			s.Dialect = string(m.c.Dialect())
		}
		switch {
		case m.gone || m.leaving:
			s.Why = "left out by a reload: finishing what it has"
		case !m.up && m.err != nil:
			s.Why = m.err.Error()
		}
		if m.src.Process != nil {
			s.Restarts = int(m.src.Process.restarts.Load())
		}
		out = append(out, s)
	}
	return out
}

// Do runs one inference at the engine with most room, waiting for a place. An
// engine that fails before the first byte of its answer is replaced by another
// one, if there is one; afterwards the answer is its own.
func (p *Pool) Do(ctx context.Context, r *Request) (*Response, error) {
	tried := map[*member]bool{}
	var failure error
	for {
		m, c, other, err := p.take(ctx, tried)
		if err != nil {
			if failure != nil && context.Cause(ctx) == nil {
				err = failure
			}
			return nil, err
		}
		resp, err := c.Do(ctx, r)
		if err == nil && other {
			err = begun(resp)
		}
		if err == nil {
			resp.Body = &place{ReadCloser: resp.Body, free: sync.OnceFunc(func() { p.release(m) })}
			return resp, nil
		}
		p.release(m)
		if context.Cause(ctx) != nil {
			return nil, context.Cause(ctx)
		}
		failure, tried[m] = err, true
		if errors.Is(err, ErrUnreachable) {
			p.set(m, nil, err)
		}
		if other {
			p.cfg.Logger.Warn("an engine failed before it answered: trying another", "engine", m.name(), "err", err)
		}
	}
}

// place gives the request's place back when its body is closed.
type place struct {
	io.ReadCloser
	free func()
}

func (b *place) Close() error {
	defer b.free()
	return b.ReadCloser.Close()
}

// begun waits for the first byte of an answer, so that an engine that dies in
// between costs nobody an answer. Refusals for want of room count as failures.
func begun(resp *Response) error {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		resp.Body.Close()
		return fmt.Errorf("%w: status %d", ErrNotReady, resp.StatusCode)
	}
	first := make([]byte, 4<<10)
	n, err := resp.Body.Read(first)
	for n == 0 && err == nil {
		n, err = resp.Body.Read(first)
	}
	if n == 0 && err != io.EOF {
		resp.Body.Close()
		return err
	}
	resp.Body = &head{first: first[:n], err: err, ReadCloser: resp.Body}
	return nil
}

// head is a body whose beginning was read already.
type head struct {
	first []byte
	err   error // that came with it
	io.ReadCloser
}

func (h *head) Read(b []byte) (int, error) {
	if len(h.first) > 0 {
		n := copy(b, h.first)
		h.first = h.first[n:]
		return n, nil
	}
	if h.err != nil {
		return 0, h.err
	}
	return h.ReadCloser.Read(b)
}

// take takes a place at the engine with most room among those not tried. other
// says that there is one more to try after it.
func (p *Pool) take(ctx context.Context, tried map[*member]bool) (m *member, c *Client, other bool, err error) {
	p.mu.Lock()
	left := 0
	var why error
	for _, x := range p.members {
		switch {
		case x.gone || tried[x]:
		case x.up:
			left++
		default:
			why = x.err
		}
	}
	if left == 0 {
		p.mu.Unlock()
		if why == nil {
			why = ErrNotReady
		}
		return nil, nil, false, why
	}
	if m := p.chooseLocked(tried); m != nil {
		m.running++
		defer p.mu.Unlock()
		return m, m.c, left > 1, nil
	}
	w := &waiter{tried: tried, got: make(chan *member, 1)}
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	t := time.NewTimer(p.cfg.Wait)
	defer t.Stop()
	select {
	case m = <-w.got:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-t.C:
		err = ErrBusy
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m == nil {
		for i, x := range p.waiting {
			if x == w {
				p.waiting = append(p.waiting[:i:i], p.waiting[i+1:]...)
				break
			}
		}
		select {
		case m = <-w.got: // came just now
		default:
			return nil, nil, false, err
		}
	}
	return m, m.c, left > 1, nil
}

// chooseLocked returns the engine with the smallest share of its places taken;
// those that do not tell their places are compared by requests.
func (p *Pool) chooseLocked(tried map[*member]bool) *member {
	var best *member
	for _, m := range p.members {
		if m.gone || !m.up || tried[m] || m.slots > 0 && m.running >= m.slots {
			continue
		}
		if best == nil || m.running*max(best.slots, 1) < best.running*max(m.slots, 1) {
			best = m
		}
	}
	return best
}

func (p *Pool) release(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.running--
	m.settle()
	if m.gone && m.running == 0 {
		p.members = slices.DeleteFunc(slices.Clone(p.members), func(x *member) bool { return x == m })
	}
	p.dispatchLocked()
}

// dispatchLocked gives free places to those who wait, first come first served.
func (p *Pool) dispatchLocked() {
	kept := p.waiting[:0]
	for _, w := range p.waiting {
		m := p.chooseLocked(w.tried)
		if m == nil {
			kept = append(kept, w)
			continue
		}
		m.running++
		w.got <- m
	}
	p.waiting = kept
}
