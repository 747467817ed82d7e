// Package endorse finds vendors' statements about platforms: Intel's PCS or a
// caching PCCS, AMD's KDS, and a folder that keeps what was found.
//
// None of these is trusted: the verifier believes signatures and dates. What
// is guarded here is only the cost: nothing is fetched for evidence whose
// certificates do not end in a trusted root (of SEV-SNP reports, which do not
// bring theirs: where no such root is trusted), and nothing twice in a short
// time.
//
// Owns: the cache folder's files.
// Imports: attest and its parsers.
// Trust: evidence, answers and files are foreign and bounded.
// Concurrency: safe for concurrent use; one fetch per platform at a time, in a
// goroutine of its own that ends after 10 s.
package endorse

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
)

// The services that are asked unless configured otherwise.
const (
	DefaultPCS     = "https://api.trustedservices.intel.com"
	DefaultRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	DefaultKDS     = "https://kdsintf.amd.com"
)

const (
	defaultRefresh = 6 * time.Hour
	retryPause     = time.Minute
	fetchLimit     = 10 * time.Second // less than a handshake's
	patience       = 2 * time.Second
	maxAnswer      = 8 << 20
	maxKeys        = 1024 // platforms remembered; FMSPCs and products are few
)

// Config says where statements come from.
type Config struct {
	// Roots are the root keys whose evidence is worth a fetch. Empty: none.
	Roots []attest.KeyID
	// PCS, RootCRL and KDS are base URLs (RootCRL a whole one). "": the
	// vendors' own, but for RootCRL beside another PCS: that one's.
	PCS, RootCRL, KDS string
	// Dir keeps what was found. "": memory only.
	Dir string
	// Offline never fetches: what Dir holds is all there is.
	Offline bool
	// Refresh is the age after which statements are fetched again. Zero: 6 h.
	Refresh time.Duration
	// Client makes the requests. nil: http.DefaultClient.
	Client *http.Client
	// Now is the clock. nil: time.Now.
	Now func() time.Time
	// Log gets failed fetches that an older answer covers. nil discards.
	Log *slog.Logger
}

// The ways a search fails.
var (
	ErrUntrusted = errors.New("endorse: the evidence does not end in a trusted root, nothing is fetched for it")
	ErrNotFound  = errors.New("endorse: no statements of the vendor about this platform are at hand")
	ErrAnswer    = errors.New("endorse: the service gave no usable answer")
)

// Source finds statements and remembers them.
type Source struct {
	cfg Config

	mu      sync.Mutex
	entries map[string]*entry
	chains  map[[32]byte]verifiedChain
}

// verifiedChain spares verifying a machine's certificates anew for each of its
// connections.
type verifiedChain struct {
	platform platform
	from, to time.Time
}

// entry is what is known of one platform.
type entry struct {
	mu       sync.Mutex
	loaded   bool
	tried    time.Time
	content  content
	fetching *fetch // under way; nil: none
}

// fetch is one visit to a service. err is set when done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

// content is the form of a file in the cache folder.
type content struct {
	Fetched time.Time          `json:"fetched"`
	Intel   *dcap.Collateral   `json:"intel,omitempty"`
	AMD     *sevsnp.Collateral `json:"amd,omitempty"`
}

func (c *content) empty() bool { return c.Intel == nil && c.AMD == nil }

// New makes a Source.
func New(cfg Config) *Source {
	cfg.PCS = cmp.Or(cfg.PCS, DefaultPCS)
	if cfg.RootCRL == "" {
		cfg.RootCRL = DefaultRootCRL
		if cfg.PCS != DefaultPCS { // a PCCS has Intel's root list too
			cfg.RootCRL = cfg.PCS + "/sgx/certification/v4/rootcacrl"
		}
	}
	cfg.KDS = cmp.Or(cfg.KDS, DefaultKDS)
	cfg.Refresh = cmp.Or(cfg.Refresh, defaultRefresh)
	if cfg.Client == nil {
		cfg.Client = http.DefaultClient
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{cfg: cfg, entries: map[string]*entry{}, chains: map[[32]byte]verifiedChain{}}
}

// platform is what statements are found by.
type platform struct {
	key   string
	fetch func(ctx context.Context, s *Source) (content, error)
}

// Endorsements returns what belongs to ev: remembered, from the folder, or
// fetched. If fetching fails or takes long, older statements serve as long as
// their own dates allow.
func (s *Source) Endorsements(ctx context.Context, ev attest.Evidence) (*attest.Endorsements, error) {
	p, err := s.identify(ev)
	if err != nil {
		return nil, err
	}
	e, err := s.entry(p.key)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	if !e.loaded {
		e.loaded = true
		s.load(p.key, &e.content)
	}
	now := s.cfg.Now()
	fresh := !e.content.empty() && now.Sub(e.content.Fetched) < s.cfg.Refresh
	if !fresh && !s.cfg.Offline && e.fetching == nil && now.Sub(e.tried) >= retryPause {
		e.tried = now
		e.fetching = &fetch{done: make(chan struct{})}
		// It serves everybody who waits, so it does not end with one of them.
		go s.fetch(context.WithoutCancel(ctx), p, e, e.fetching)
	}
	under, have := e.fetching, !e.content.empty()
	e.mu.Unlock()
	if under != nil {
		if err := under.wait(ctx, have); err != nil && !have {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.content.empty() {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, p.key)
	}
	return &attest.Endorsements{Intel: e.content.Intel, AMD: e.content.AMD}, nil
}

// wait waits for the fetch, and where there are older statements not for long:
// a service that hangs must not hold up those whom they would do for.
func (f *fetch) wait(ctx context.Context, older bool) error {
	var enough <-chan time.Time
	if older {
		t := time.NewTimer(patience)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-f.done:
		return f.err
	case <-enough:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: none yet: %v", ErrAnswer, context.Cause(ctx))
	}
}

// fetch asks the service and keeps what it says.
func (s *Source) fetch(ctx context.Context, p platform, e *entry, f *fetch) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchLimit, errors.New("the service does not answer in time"))
	defer cancel()
	found, err := p.fetch(ctx, s)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		found.Fetched = e.tried
		e.content = found
		s.store(p.key, &found)
	} else if !e.content.empty() {
		s.cfg.Log.Warn("statements not renewed, older ones serve on", "platform", p.key, "fetched", e.content.Fetched, "error", err)
	}
	f.err, e.fetching = err, nil
	close(f.done)
}

func (s *Source) entry(key string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok {
		if len(s.entries) >= maxKeys {
			return nil, fmt.Errorf("%w: more than %d platforms", ErrNotFound, maxKeys)
		}
		e = &entry{}
		s.entries[key] = e
	}
	return e, nil
}

// identify says which platform ev is from. An Intel chain is verified up to a
// trusted root first; of AMD, where it is trusted at all, only a handful of
// products exist.
func (s *Source) identify(ev attest.Evidence) (platform, error) {
	switch ev.Format {
	case attest.FormatTDX:
		q, err := dcap.Parse(ev.Quote)
		if err != nil {
			return platform{}, fmt.Errorf("endorse: %w", err)
		}
		return s.identifyIntel(q)
	case attest.FormatSEVSNP:
		if !slices.ContainsFunc(s.cfg.Roots, func(r attest.KeyID) bool { return attest.KindOf(r) != attest.TDX }) {
			return platform{}, ErrUntrusted
		}
		signer, err := sevsnp.ParseSigner(ev.Certificate)
		if err != nil {
			return platform{}, fmt.Errorf("endorse: %w", err)
		}
		return amdPlatform(signer), nil
	}
	return platform{}, fmt.Errorf("%w: %s", ErrNotFound, ev.Format)
}

func (s *Source) identifyIntel(q *dcap.Quote) (platform, error) {
	now := s.cfg.Now()
	id := sha256.Sum256(append(q.Chain[:len(q.Chain):len(q.Chain)], byte(q.Header.TEE)))
	s.mu.Lock()
	known, ok := s.chains[id]
	s.mu.Unlock()
	if ok && !now.Before(known.from) && now.Before(known.to) {
		return known.platform, nil
	}
	chain, err := dcap.ParseChain(q.Chain)
	if err != nil {
		return platform{}, fmt.Errorf("endorse: %w", err)
	}
	if !slices.Contains(s.cfg.Roots, attest.KeyID(chain.RootKeyID())) {
		return platform{}, ErrUntrusted
	}
	if err := chain.Verify(now); err != nil {
		return platform{}, fmt.Errorf("endorse: %w", err)
	}
	p, err := intelPlatform(q, chain)
	if err != nil {
		return platform{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.chains) >= maxKeys {
		clear(s.chains)
	}
	s.chains[id] = verifiedChain{p, now, chain.Expires()}
	return p, nil
}

func intelPlatform(q *dcap.Quote, chain *dcap.Chain) (platform, error) {
	p, err := dcap.ParseProcessor(chain.Leaf)
	if err != nil {
		return platform{}, fmt.Errorf("endorse: %w", err)
	}
	family, ca, root := "sgx", "platform", chain.RootKeyID()
	if q.TD != nil {
		family = "tdx"
	}
	if chain.Intermediate.Subject.CommonName == dcap.ProcessorCAName {
		ca = "processor"
	}
	fmspc := hex.EncodeToString(p.FMSPC[:])
	return platform{
		key: fmt.Sprintf("%s-%s-%s-%x", family, fmspc, ca, root[:8]),
		fetch: func(ctx context.Context, s *Source) (c content, err error) {
			c.Intel = &dcap.Collateral{}
			base := s.cfg.PCS + "/" + family + "/certification/v4/"
			steps := []struct {
				url, chainHeader string
				body, chain      *[]byte
			}{
				{base + "tcb?fmspc=" + fmspc, "TCB-Info-Issuer-Chain", &c.Intel.TCBInfo, &c.Intel.TCBInfoChain},
				{base + "qe/identity", "SGX-Enclave-Identity-Issuer-Chain", &c.Intel.QEIdentity, &c.Intel.QEIdentityChain},
				{s.cfg.PCS + "/sgx/certification/v4/pckcrl?ca=" + ca + "&encoding=der", "", &c.Intel.PCKCRL, nil},
				{s.cfg.RootCRL, "", &c.Intel.RootCRL, nil},
			}
			for _, step := range steps {
				body, header, err := s.get(ctx, step.url)
				if err != nil {
					return content{}, err
				}
				*step.body = body
				if step.chain == nil {
					*step.body = unhex(body)
					continue
				}
				text, err := url.PathUnescape(header.Get(step.chainHeader))
				if err != nil || text == "" {
					return content{}, fmt.Errorf("%w: %s: no issuer chain", ErrAnswer, step.url)
				}
				*step.chain = []byte(text)
			}
			return c, nil
		},
	}, nil
}

// unhex undoes the hex in which caching services answer revocation lists.
func unhex(b []byte) []byte {
	if out, err := hex.DecodeString(string(b)); err == nil {
		return out
	}
	return b
}

func amdPlatform(signer *sevsnp.Signer) platform {
	family := "vcek"
	if signer.VLEK {
		family = "vlek"
	}
	product := signer.Product.Root()
	return platform{
		key: fmt.Sprintf("%s-%s", family, product),
		fetch: func(ctx context.Context, s *Source) (c content, err error) {
			base := s.cfg.KDS + "/" + family + "/v1/" + string(product) + "/"
			c.AMD = &sevsnp.Collateral{}
			if c.AMD.Chain, _, err = s.get(ctx, base+"cert_chain"); err != nil {
				return content{}, err
			}
			if c.AMD.CRL, _, err = s.get(ctx, base+"crl"); err != nil {
				return content{}, err
			}
			return c, nil
		},
	}
}

func (s *Source) get(ctx context.Context, address string) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %v", ErrAnswer, err)
	}
	resp, err := s.cfg.Client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %v", ErrAnswer, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %s: %v", ErrAnswer, address, err)
	case resp.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("%w: %s: %s", ErrAnswer, address, resp.Status)
	case len(body) > maxAnswer:
		return nil, nil, fmt.Errorf("%w: %s: more than %d bytes", ErrAnswer, address, maxAnswer)
	}
	return body, resp.Header, nil
}

// load reads a platform's file, if there is one that can be read.
func (s *Source) load(key string, c *content) {
	if s.cfg.Dir == "" {
		return
	}
	b, err := readFile(filepath.Join(s.cfg.Dir, key+".json"))
	if err == nil {
		var read content
		if err = json.Unmarshal(b, &read); err == nil {
			*c = read
			return
		}
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.cfg.Log.Warn("statements kept on disk cannot be read", "platform", key, "error", err)
	}
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const limit = 4 * maxAnswer
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// store writes a platform's file whole or not at all. Losing it costs a fetch.
func (s *Source) store(key string, c *content) {
	if s.cfg.Dir == "" {
		return
	}
	if err := s.write(key, c); err != nil {
		s.cfg.Log.Warn("statements cannot be kept on disk", "platform", key, "error", err)
	}
}

func (s *Source) write(key string, c *content) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.cfg.Dir, key+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.cfg.Dir, key+".json"))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
