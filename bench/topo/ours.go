package topo

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/bench/engine"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/node"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// Names of the images that the simulated guests run.
const (
	proxyImage  = "cocoon-proxy"
	workerImage = "cocoon-worker"
	// globalID is that of no public network.
	globalID = -1000
	// fullModel is the model as the root contract lists it.
	fullModel = engine.Model + "@1:0"
)

// ours starts one worker, one proxy and a client as the configuration of a
// private network says: simulated evidence and a root file, so that no chain
// takes part. All else is as it is in production: validation, metering, signed
// payments and a ledger that is durable before a request ends.
func (t *Topology) ours(e Env, dir string, kind Kind) error {
	seed := make([]byte, 32)
	if _, err := rand.Read(seed); err != nil {
		return err
	}
	vendor, err := simulated.New(seed)
	if err != nil {
		return err
	}
	seedFile, keyFile, rootFile := filepath.Join(dir, "seed"), filepath.Join(dir, "key"), filepath.Join(dir, "root.json")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		return err
	}
	if err := wallet.WriteKeyFile(keyFile, wallet.NewKey()); err != nil {
		return err
	}
	workersAddr, err := FreeAddr()
	if err != nil {
		return err
	}
	clientsAddr, err := FreeAddr()
	if err != nil {
		return err
	}
	root := cocoon.Address{Hash: [32]byte{1}}.String()
	hash := func(image string) []string {
		h := simulated.Image(image).Hash()
		return []string{base64.StdEncoding.EncodeToString(h[:])}
	}
	modelHash := sha256.Sum256([]byte(fullModel))
	b, err := json.Marshal(map[string]any{
		"registered_proxies": []map[string]any{{"seqno": 1, "address": workersAddr + " " + clientsAddr}},
		"proxy_hashes":       hash(proxyImage), "worker_hashes": hash(workerImage), "model_hashes": []string{base64.StdEncoding.EncodeToString(modelHash[:])},
		"price_per_token": 20, "worker_fee_per_token": 19, "version": 1, "params_version": 1, "root_owner_address": root,
		"proxy_sc_code": "", "worker_sc_code": "", "client_sc_code": "",
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(rootFile, b, 0o600); err != nil {
		return err
	}
	id := vendor.RootKeyID().String()
	start := func(role, name, image string, change func(*node.Config)) error {
		c := node.Default(role)
		c.Measured = node.Measured{
			GlobalID: globalID, RootContract: root, RootFile: rootFile, IsTest: true, Evidence: string(attest.Simulated),
			Accept: []string{string(attest.Simulated)}, SimulatedRoot: id, SimulatedImage: image,
		}
		if image == "" {
			c.Measured.Evidence = string(attest.None)
		}
		c.Measured.Seal = string(api.SealOff)
		if kind == Sealed || kind == Receipts {
			c.Measured.Seal = string(api.SealRequire)
		}
		if kind == Receipts {
			c.Measured.MinLevel = wire.Level1 // receipts without a chain
		}
		r := &c.Runtime
		r.Dir, r.LogLevel, r.SimulatedSeed, r.SimulatedMachine, r.PowDifficulty = filepath.Join(dir, name), "warn", seedFile, name, -1
		r.Owner = cocoon.Address{Hash: [32]byte{2, byte(len(t.Procs)), role[0]}}.String()
		change(&c)
		if err := os.MkdirAll(r.Dir, 0o700); err != nil {
			return err
		}
		var text bytes.Buffer
		if err := c.Write(&text); err != nil {
			return err
		}
		file := filepath.Join(dir, name+".toml")
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			return err
		}
		program, args := e.Cocoon, []string{role, "--config", file}
		if level0 := kind == Ours0 && role == "proxy"; level0 || e.Profile != "" {
			// The proxy alone decides the level: it is the acceptor of both
			// connections.
			program, args = e.Self, []string{"role", "-role", role, "-config", file, "-profile", e.Profile, "-name", string(t.Kind) + "-" + name}
			if level0 {
				args = append(args, "-level0")
			}
		}
		p, err := Start(dir, name, e.Hops, nil, program, args...)
		if err == nil {
			t.Procs = append(t.Procs, p)
		}
		return err
	}
	if err := start("proxy", "proxy", proxyImage, func(c *node.Config) {
		c.Runtime.ListenWorkers, c.Runtime.ListenClients, c.Runtime.KeyFile = workersAddr, clientsAddr, keyFile
	}); err != nil {
		return err
	}
	if err := start("worker", "worker", workerImage, func(c *node.Config) {
		c.Measured.Engine, c.Measured.Model, c.Runtime.MaxActive = "http://"+e.Engine, fullModel, 4096
	}); err != nil {
		return err
	}
	listen, err := FreeAddr()
	if err != nil {
		return err
	}
	if err := start("client", "client", "", func(c *node.Config) { c.Runtime.Listen, c.Runtime.MaxCalls = listen, 4096 }); err != nil {
		return err
	}
	t.Addrs = append(t.Addrs, listen)
	return nil
}
