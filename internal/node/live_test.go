//go:build !tee

package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/attest/nvgpu"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
)

// site is a proxy's port for workers and a worker, as the node assembles both
// from their configurations.
type site struct {
	worker, proxy Config
	vendor        *simulated.Vendor
	holder        *registry.Holder
	snap          *registry.Snapshot

	dial     tee.Dialer
	addr     string
	accepted chan *tee.Conn
	chain    *chain
}

func newSite(t *testing.T, change func(*site)) *site {
	t.Helper()
	s := &site{worker: Default("worker"), proxy: Default("proxy")}
	seed := filepath.Join(t.TempDir(), "vendor.seed")
	if err := os.WriteFile(seed, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.vendor, err = simulated.New(bytes.Repeat([]byte{7}, 32)); err != nil {
		t.Fatal(err)
	}
	for c, image := range map[*Config]string{&s.worker: simWorkImage, &s.proxy: simProxyImage} {
		c.Measured.GlobalID, c.Measured.MinLevel = devnet.DefaultGlobalID, 1
		c.Measured.Evidence, c.Measured.Accept, c.Measured.SimulatedRoot = "simulated", []string{"simulated"}, s.vendor.RootKeyID().String()
		c.Measured.SimulatedImage = image
		c.Runtime.SimulatedSeed, c.Runtime.SimulatedMachine, c.Runtime.PowDifficulty, c.Runtime.Dir = seed, image, -1, folder(t)
	}
	if change != nil {
		change(s)
	}
	root := cocoon.Address{Hash: [32]byte{1}}
	file := fmt.Sprintf(`{"registered_proxies":[],"model_types":["m@1:2"],"price_per_token":20,"worker_fee_per_token":19,"version":1,"params_version":1,"proxy_sc_code":%q,"worker_sc_code":%q,"client_sc_code":%q,"root_owner_address":%q}`,
		hex.EncodeToString(contracts.Proxy()), hex.EncodeToString(contracts.Worker()), hex.EncodeToString(contracts.Client()), root.String())
	if s.snap, err = registry.ParseFile([]byte(file), root, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.snap.WorkerImages = []attest.ImageHash{simulated.Image(simWorkImage).Hash()}
	s.snap.ProxyImages = []attest.ImageHash{simulated.Image(simProxyImage).Hash()}
	s.holder = registry.NewHolder(registry.HolderConfig{})
	if err := s.holder.Publish(s.snap); err != nil {
		t.Fatal(err)
	}
	s.chain = &chain{Source: s.holder, root: root}

	host := &proxyHost{cfg: &s.proxy, log: quiet(), owner: cocoon.Address{Hash: [32]byte{2}}, key: wallet.NewKey(), chain: s.chain}
	lp, err := newLevel1(&s.proxy, s.chain, cocoon.RoleProxy, host.facts, &host.key, quiet())
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity(&s.proxy, s.chain, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := listener(&s.proxy, lp, ln, cocoon.RoleWorker, id, quiet())
	if err != nil {
		t.Fatal(err)
	}
	s.addr, s.accepted = ln.Addr().String(), make(chan *tee.Conn, 16)
	go func() {
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			s.accepted <- c
		}
	}()
	t.Cleanup(func() { l.Close() })
	lw, err := newLevel1(&s.worker, s.chain, cocoon.RoleWorker, func() (statement.Facts, error) {
		return statement.Facts{Model: "m@1:2", Owner: cocoon.Address{Hash: [32]byte{5}}}, nil
	}, nil, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if s.dial, err = dialer(&s.worker, lw, quiet()); err != nil {
		t.Fatal(err)
	}
	return s
}

// sites holds folders until all tests are over: a fetch may still end there
// that nobody waits for any more, as one side of a handshake ends first.
var sites string

func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(sites, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// meet connects the worker; the proxy's end is nil if it refused.
func (s *site) meet(t *testing.T) (worker, proxy *tee.Conn, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if worker, err = s.dial.Dial(ctx, s.addr); err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { worker.Close() })
	proxy = <-s.accepted
	t.Cleanup(func() { proxy.Close() })
	return worker, proxy, nil
}

// TestMain is also the GPU helper of the tests below: a program of its own
// that shows SIMULATED evidence.
func TestMain(m *testing.M) {
	if seed, err := os.ReadFile(gpuSeedBeside()); err == nil && len(os.Args) == 2 && len(os.Args[1]) == 64 {
		os.Exit(helpGPU(seed))
	}
	var err error
	if sites, err = os.MkdirTemp("", "cocoon-sites-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(sites)
	os.Exit(code)
}

// gpuSeedBeside is a file beside the program that makes it a GPU helper.
func gpuSeedBeside() string { return filepath.Join(filepath.Dir(os.Args[0]), "gpu.seed") }

func helpGPU(seed []byte) int {
	if string(seed) == "broken" {
		fmt.Fprintln(os.Stderr, "no GPU here")
		return 1
	}
	v, err := simulated.New(seed)
	if err != nil {
		return 2
	}
	nonce, err := hex.DecodeString(os.Args[1])
	if err != nil {
		return 3
	}
	set, err := v.NewGPUs("helper", 2).Collect(context.Background(), [32]byte(nonce))
	if err != nil {
		return 4
	}
	_, _ = os.Stdout.Write(set.Encode())
	return 0
}

// gpuProgram is a helper whose GPUs are made by the vendor of a seed.
func gpuProgram(t *testing.T, seed []byte) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gpu.seed"), seed, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "helper")
	if err := exec.Command("cp", self, path).Run(); err != nil {
		t.Skipf("cannot copy the test program: %v", err)
	}
	return path
}

// TestGPUPolicy: a network that demands GPUs takes workers whose helper shows
// them, and says of others what is wrong.
func TestGPUPolicy(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, 32)
	other, err := simulated.New(bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	pin := func(t *testing.T, v *simulated.Vendor) string {
		p, err := v.GPUPolicy()
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "gpu.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name   string
		helper func(t *testing.T) string
		vendor *simulated.Vendor // whose GPUs are demanded; nil: none are
		want   error             // at the worker, who hears it from the proxy
		text   string
	}{
		{"demanded and shown", func(t *testing.T) string { return gpuProgram(t, seed) }, nil, nil, ""},
		{"simulated", func(*testing.T) string { return "simulated" }, nil, nil, ""},
		{"not shown", func(*testing.T) string { return "" }, nil, statement.ErrRefused, attest.ErrNoGPU.Error()},
		{"another maker's", func(t *testing.T) string { return gpuProgram(t, seed) }, other, statement.ErrRefused, nvgpu.ErrRoot.Error()},
		{"a helper that fails", func(t *testing.T) string { return gpuProgram(t, []byte("broken")) }, nil, errGPUHelper, "no GPU here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, func(s *site) {
				demanded := c.vendor
				if demanded == nil {
					demanded = s.vendor
				}
				s.worker.Measured.GPUHelper, s.proxy.Measured.GPUPolicy = c.helper(t), pin(t, demanded)
			})
			_, proxy, err := s.meet(t)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil {
				if !strings.Contains(err.Error(), c.text) {
					t.Errorf("%v does not say %q", err, c.text)
				}
				return
			}
			n := proxy.Peer.Node
			if !slices.ContainsFunc(n.Factors, func(f attest.Factor) bool { return f.Name == "GPU 1 measurements" && f.Enforced }) {
				t.Errorf("no factor of the GPU: %+v", n.Factors)
			}
			// Others verify the same from the bundle, as `cocoon verify worker:ID` does.
			base, err := verifierBase(&s.proxy, cocoon.RoleWorker, quiet())
			if err != nil {
				t.Fatal(err)
			}
			v, err := statement.NewVerifier(s.chain.verifies(cocoon.RoleWorker, base))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.VerifyBundle(t.Context(), n.Bundle); err != nil {
				t.Error(err)
			}
		})
	}
}

// A demand that could be evaded at level 0 is no configuration.
func TestGPUPolicyNeedsLevel1(t *testing.T) {
	c := Default("proxy")
	c.Measured.GPUPolicy = "/spec/gpu.json"
	if _, err := c.Measured.policy(); err == nil || !strings.Contains(err.Error(), "min_level") {
		t.Errorf("%v", err)
	}
	c.Measured.GPUHelper = "helper"
	if _, err := gpus(&c); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("%v", err)
	}
}

// TestTDX takes the kind tdx through the whole node with a SIMULATED vendor's
// root in Intel's place: quotes, collateral over HTTP, its renewal and end, and
// a changed registry.
func TestTDX(t *testing.T) {
	vendor, err := simulated.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	guest, err := vendor.NewGuest(simulated.GuestConfig{Machine: "one", Registers: simulated.Image(simWorkImage)})
	if err != nil {
		t.Fatal(err)
	}
	intel := attest.IntelRoot
	attest.IntelRoot, testOnlyTDX = vendor.RootKeyID(), guest
	t.Cleanup(func() { attest.IntelRoot, testOnlyTDX = intel, nil })

	var asked atomic.Int64
	var says atomic.Pointer[simulated.Statements]
	says.Store(&simulated.Statements{At: time.Now().Add(-time.Hour)})
	pcs := vendor.PCS(func() simulated.Statements { return *says.Load() })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		pcs.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	hardware := func(s *site) {
		for _, c := range []*Config{&s.worker, &s.proxy} {
			c.Measured.Evidence, c.Measured.Accept, c.Measured.SimulatedRoot = "tdx", []string{"tdx"}, ""
			c.Runtime.SimulatedSeed, c.Runtime.CollateralURL = "", server.URL
		}
	}

	s := newSite(t, hardware)
	worker, proxy, err := s.meet(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []tee.Peer{worker.Peer, proxy.Peer} {
		if p.Kind != attest.TDX || p.Result.Status != dcap.UpToDate || p.Node.Result.Kind != attest.TDX || p.Level != 1 {
			t.Errorf("%s, %s, level %d", p.Kind, p.Result.Status, p.Level)
		}
		if ends := says.Load().At.Add(simulated.Lifetime); p.Result.Expires.After(ends) {
			t.Errorf("a verdict until %s on statements until %s", p.Result.Expires, ends)
		}
	}
	if err := role.AdmitWorker(s.snap, proxy.Peer); err != nil {
		t.Errorf("listed: %v", err)
	}
	unlisted := *s.snap
	unlisted.WorkerImages = nil
	if err := role.AdmitWorker(&unlisted, proxy.Peer); err == nil {
		t.Error("an unlisted image of real hardware is admitted")
	}
	before := asked.Load()
	if _, _, err := s.meet(t); err != nil || asked.Load() != before {
		t.Errorf("a second connection: %v; %d fetches", err, asked.Load()-before)
	}

	for _, c := range []struct {
		name  string
		says  simulated.Statements
		cause error
	}{
		{"run out", simulated.Statements{At: time.Now().Add(-simulated.Lifetime - time.Hour)}, dcap.ErrCRLDate},
		{"out of date", simulated.Statements{At: time.Now().Add(-time.Hour), Platform: dcap.OutOfDate}, attest.ErrStatus},
		{"revoked", simulated.Statements{At: time.Now().Add(-time.Hour), RevokedMachines: []string{"one"}}, dcap.ErrRevoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			says.Store(&c.says)
			_, _, err := newSite(t, hardware).meet(t)
			if !errors.Is(err, c.cause) {
				t.Errorf("%v, want %v", err, c.cause)
			}
		})
	}
	// A service that hangs: the card says so, in the time there is.
	hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(func() {
		hung.CloseClientConnections()
		hung.Close()
	})
	q, err := guest.Quote([64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	kept := Default("client")
	kept.Runtime.Dir, kept.Runtime.CollateralURL = t.TempDir(), hung.URL
	file := filepath.Join(kept.Runtime.Dir, "quote.bin")
	if err := os.WriteFile(file, q.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	card, err := Verify(soon, VerifyConfig{Target: file, Policy: "tdx", Config: &kept})
	if err != nil {
		t.Fatal(err)
	}
	if f := card.Failed(); f == nil || f.Fix == "" || !slices.ContainsFunc(card.Factors, func(f VerifiedFactor) bool {
		return f.Name == "endorsements" && strings.Contains(f.Detail, "none yet")
	}) {
		t.Errorf("with a service that hangs: %+v", card.Factors)
	}

	// With good statements the same machine is taken again.
	says.Store(&simulated.Statements{At: time.Now().Add(-time.Minute)})
	renewed := newSite(t, hardware)
	if _, _, err := renewed.meet(t); err != nil {
		t.Errorf("after the statements were renewed: %v", err)
	}
	server.Close()
	if _, _, err := renewed.meet(t); err != nil {
		t.Errorf("with the service away, while what it said holds: %v", err)
	}
	if _, _, err := newSite(t, hardware).meet(t); !errors.Is(err, attest.ErrEndorsements) && err == nil {
		t.Errorf("without any statement: %v", err)
	}
}

// The kind sev-snp is opt-in: images and patch level must be named.
func TestSEVIsOptIn(t *testing.T) {
	image := strings.Repeat("ab", 32)
	byDefault := Default("proxy").Measured
	for _, c := range []struct {
		name, images, tcb, text string
	}{
		{"whole", image, "0.4.0.22.213", ""},
		{"no image", "", "0.4.0.22.213", "sev_images is empty"},
		{"no hash", "abcd", "0.4.0.22.213", "sev_images"},
		{"no patch level", image, "", "sev_min_tcb"},
		{"four parts", image, "4.0.22.213", "sev_min_tcb"},
		{"too large", image, "0.4.0.22.256", "sev_min_tcb"},
		{"nothing at all", image, "0.0.0.0.0", "lowest patch level"},
	} {
		m := byDefault
		m.Accept, m.SEVImages, m.SEVMinTCB = []string{"tdx", "sev-snp"}, strings.Fields(c.images), c.tcb
		p, err := m.policy()
		switch {
		case c.text == "" && (err != nil || !p.Accepts(attest.SEVSNP) || !p.Accepts(attest.TDX) || p.SNP.MinTCB.Microcode != 213 || len(p.SNP.KernelMeasured) != 1):
			t.Errorf("%s: %+v, %v", c.name, p, err)
		case c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%s: %v, want %q", c.name, err, c.text)
		}
	}
	if p, err := byDefault.policy(); err != nil || p.Accepts(attest.SEVSNP) {
		t.Errorf("by default: %+v, %v", p, err)
	}
	c := Default("proxy")
	c.Measured.Evidence = "sev-snp"
	a, err := attester(&c)
	if err != nil {
		t.Fatal(err)
	}
	if tsm, ok := a.(*ratls.TSM); !ok || tsm.Signer == nil {
		t.Errorf("attester %T without AMD's certificates", a)
	}
}

// A configuration widens or narrows what is accepted by name, and no wrong name
// passes for one.
func TestStatusesAndPlatforms(t *testing.T) {
	m := Default("proxy").Measured
	m.Statuses, m.Platforms = []string{"UpToDate", "SWHardeningNeeded"}, []string{strings.Repeat("0f", 32)}
	p, err := m.policy()
	if err != nil || len(p.Statuses) != 2 || p.Statuses[1] != dcap.SWHardeningNeeded || len(p.Platforms) != 1 || p.Platforms[0][0] != 0x0f {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []func(*Measured){
		func(m *Measured) { m.Statuses = []string{"Revoked"} },
		func(m *Measured) { m.Statuses = []string{"any"} },
		func(m *Measured) { m.Platforms = []string{"0f"} },
	} {
		m := Default("proxy").Measured
		bad(&m)
		if _, err := m.policy(); err == nil {
			t.Errorf("accepted: %+v", m)
		}
	}
}

// A router's record names no machine, so a list of machines and a router
// exclude each other from the start.
func TestPlatformsBehindRouter(t *testing.T) {
	c := Default("client")
	c.Runtime.Via, c.Measured.MinLevel = "127.0.0.1:8116", 0
	c.Measured.Platforms = []string{strings.Repeat("0f", 32)}
	if _, err := dialer(&c, nil, nil); err == nil || !strings.Contains(err.Error(), "measured.platforms") {
		t.Errorf("%v, want a refusal that names measured.platforms", err)
	}
}
