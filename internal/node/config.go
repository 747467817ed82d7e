// Package node assembles roles from configuration: the one place where parts
// meet. It holds no rules of its own beyond which part goes where.
//
// Owns: configuration, assembly of each role, the network that `up` runs.
// Imports: everything below it.
// Trust: Measured configuration decides what is checked; Runtime brings only
// servers, limits and names.
package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Config is the configuration of one role's process.
type Config struct {
	// Role is client, proxy or worker.
	Role     string   `toml:"role"`
	Measured Measured `toml:"measured"`
	Runtime  Runtime  `toml:"runtime"`

	// Reload brings a value whenever the configuration is to be read again,
	// which Reread does; nil = never. Workers take part of it over.
	Reload <-chan struct{}         `toml:"-"`
	Reread func() (*Config, error) `toml:"-"`
	// key is the engine's API key from the environment.
	key string
	// keys reads the key files; Run makes it.
	keys keyring
}

// Measured is everything that can weaken a check. In the measured image it is
// read from the measured spec folder alone.
type Measured struct {
	// GlobalID names the TON network: -239 is mainnet, -3 testnet.
	GlobalID int32 `toml:"global_id"`
	// RootContract is the address of the network's root contract.
	RootContract string `toml:"root_contract"`
	// TonConfig is TON's global configuration file; its zero state and init
	// block are believed, its liteservers are not.
	TonConfig string `toml:"ton_config"`
	// RootFile is a root configuration in the reference's fake-chain form,
	// which stands in for a chain in test networks.
	RootFile string `toml:"root_file"`
	// IsTest must equal the network's; TestOnly sets the test-only flag in
	// addresses sent to peers.
	IsTest   bool `toml:"is_test"`
	TestOnly bool `toml:"test_only"`
	// Evidence is what this process presents: tdx, sev-snp, simulated, fake or
	// none.
	Evidence string `toml:"evidence"`
	// Accept lists the kinds of evidence accepted from proxies and workers.
	Accept []string `toml:"accept"`
	// MinLevel is the lowest level of the protocol spoken with proxies and
	// workers: 1 demands statements and session proofs, 0 faces C++ peers too.
	MinLevel int `toml:"min_level"`
	// Seal says whether requests are sealed to workers: require, prefer or off.
	// Callers may only tighten it; "" = require. prefer gives nothing against a proxy that
	// does not want to.
	Seal string `toml:"seal"`
	// Level0Login lets a client log in at proxies of level 0 without real
	// evidence: test networks only.
	Level0Login bool `toml:"level0_login"`
	// SimulatedRoot is the key id (96 hex digits) of the simulated vendor that
	// is trusted where Accept lists simulated.
	SimulatedRoot string `toml:"simulated_root"`
	// SimulatedImage is the name of the image a simulated guest runs.
	SimulatedImage string `toml:"simulated_image"`
	// Statuses are the patch levels accepted of Intel platforms, in the
	// vendor's words; empty: UpToDate only. Platforms are the machines
	// accepted (64 hex digits, as a scorecard's factor "platform" shows them);
	// empty: any that the vendor certifies.
	Statuses  []string `toml:"statuses"`
	Platforms []string `toml:"platforms"`
	// SEVImages are the image hashes, of those the root contract lists, whose
	// SEV-SNP launch measurement covers kernel, initrd and command line;
	// SEVMinTCB is the lowest patch level: FMC, boot loader, TEE, SNP and
	// microcode, such as 0.4.0.22.213. Both are needed where Accept has sev-snp.
	SEVImages []string `toml:"sev_images"`
	SEVMinTCB string   `toml:"sev_min_tcb"`
	// SealedKeys says what the role's key files are sealed by: tdx (the
	// sealing enclave of the host), sev-snp (the processor), simulated; "" =
	// they are plain. SealEnclaves are the enclaves believed (MRENCLAVE, hex).
	SealedKeys   string   `toml:"sealed_keys"`
	SealEnclaves []string `toml:"seal_enclaves"`
	// GPUHelper is the program that asks a worker's GPUs for evidence, by its
	// absolute path ("simulated": simulated GPUs); "" = the worker shows none.
	GPUHelper string `toml:"gpu_helper"`
	// GPUPolicy is a file with pinned GPU roots and measurements that every
	// worker's GPU evidence must meet; "" = none is demanded.
	GPUPolicy string `toml:"gpu_policy"`
	// Model is a worker's full model name, name@commit:hash.
	Model string `toml:"model"`
	// Engine is a worker's engine: a URL (http, or unix:/path; in the measured
	// image loopback and sockets only), "auto" for one that runs here, or
	// "vllm", "sglang", "llama.cpp" to start one and keep it running. Engines are
	// more of them, which serve the same model. EngineArgs are arguments for
	// engines that are started, as they are.
	Engine     string   `toml:"engine"`
	Engines    []string `toml:"engines"`
	EngineArgs []string `toml:"engine_args"`
	// ToolParser and ReasoningParser name the model's formats to engines that
	// are started; "" = by the model's name, and none.
	ToolParser      string `toml:"tool_parser"`
	ReasoningParser string `toml:"reasoning_parser"`
	// ModelPath is the folder or file of the model: its hash is compared with
	// the one in Model before anything is served. "" = not compared, which the
	// measured image refuses.
	ModelPath string `toml:"model_path"`
	// ServedModel is the name the engine knows the model by; "" = base name.
	ServedModel string `toml:"served_model"`
}

// Runtime is what may come from outside without weakening a check.
type Runtime struct {
	// Dir keeps the role's state: ledger, payments.
	Dir string `toml:"dir"`
	// LogLevel is debug, info, warn or error; LogFormat text or json.
	LogLevel  string `toml:"log_level"`
	LogFormat string `toml:"log_format"`
	// Listen is the gateway's address (client).
	Listen string `toml:"listen"`
	// Hosts are names the gateway answers to besides loopback's; Origins are
	// web origins that may call it.
	Hosts   []string `toml:"hosts"`
	Origins []string `toml:"origins"`
	// ListenWorkers and ListenClients are a proxy's two ports.
	ListenWorkers string `toml:"listen_workers"`
	ListenClients string `toml:"listen_clients"`
	// Status is where health, metrics and /jsonstats are served (proxy,
	// worker; the client serves them beside the gateway). "" = nowhere.
	Status string `toml:"status"`
	// Owner is the address of the person behind the role: owner of the proxy
	// contract and its earnings, receiver of a worker's payouts, owner of the
	// node wallet.
	Owner string `toml:"owner"`
	// WalletKeyFile holds the key of the node wallet, which pays for messages
	// on chain (not used with a root file).
	WalletKeyFile string `toml:"wallet_key_file"`
	// Every is the time between looks at the chain, in seconds; 0 = 5.
	Every float64 `toml:"every"`
	// Budget is the most, in coins, that a client deposits at one proxy by
	// itself; "" = nothing. TopUp is the size of one deposit; "" = the stake.
	Budget string `toml:"budget"`
	TopUp  string `toml:"top_up"`
	// Stake is what a proxy keeps in its contract, in coins: a silent proxy's
	// clients are refunded from it. "" = the least that the root contract asks
	// for, "0" = none.
	Stake string `toml:"stake"`
	// MarkEvery is the least time between a proxy's marks on chain, in seconds;
	// 0 = 45.
	MarkEvery float64 `toml:"mark_every"`
	// AnchorEvery is the time between heads of the audit log on chain, in
	// seconds; 0 = 600. Without new receipts nothing is sent.
	AnchorEvery float64 `toml:"anchor_every"`
	// KeyFile holds the proxy's contract key.
	KeyFile string `toml:"key_file"`
	// PreviousKeyFile holds the contract key before that one, where it changed:
	// it signs its successor, so that clients who know it stay.
	PreviousKeyFile string `toml:"previous_key_file"`
	// SecretFile holds the client's login master secret; with a root file, the
	// secret itself. "" = the empty secret, with a root file only.
	SecretFile string `toml:"secret_file"`
	// Via is the SOCKS5 address of a router that makes the connections;
	// "" = this process makes them.
	Via string `toml:"via"`
	// Proxies is how many proxies a client or worker keeps connections to.
	Proxies int `toml:"proxies"`
	// Coefficient is a worker's price factor in thousandths.
	Coefficient int32 `toml:"coefficient"`
	// MaxActive bounds a worker's requests at one time; 0 = what its engines
	// can do, or 60 if they do not tell. What is above that waits its turn, for
	// QueueWait seconds at most; 0 = 10. A client's calls wait as long for a place.
	MaxActive int     `toml:"max_active_requests"`
	QueueWait float64 `toml:"queue_wait"`
	// EngineKeyFile holds the API key of engines named by URL; the variable
	// COCOON_ENGINE_KEY goes before it.
	EngineKeyFile string `toml:"engine_key_file"`
	// EngineSlots is how many requests each engine takes at one time; 0 = what
	// it tells. EngineInstances is how many engines are started, each on
	// EngineGPUs processors of its own; EngineContext the longest request in
	// tokens. 0 = 1, 1, the model's.
	EngineSlots     int `toml:"engine_slots"`
	EngineInstances int `toml:"engine_instances"`
	EngineGPUs      int `toml:"engine_gpus"`
	EngineContext   int `toml:"engine_context"`
	// MaxCoefficient is the highest price factor a client accepts.
	MaxCoefficient int32 `toml:"max_coefficient"`
	// Candidates is how many workers a client seals a request to, each of which
	// could read it: 1 to 8; 0 = 3. MinReputation is the lowest reputation, 0 to
	// 1, that a worker may have with this client.
	Candidates    int     `toml:"candidates"`
	MinReputation float64 `toml:"min_reputation"`
	// NoCacheSalt sends workers no salt that divides their prompt caches between
	// callers; the salt links one caller's requests at a worker for a day.
	NoCacheSalt bool `toml:"no_cache_salt"`
	// ReferenceWorkers says that C++ workers may serve this client's calls:
	// fields they would refuse are an error before the call.
	ReferenceWorkers bool `toml:"reference_workers"`
	// MaxCalls bounds a client's calls at one time; MaxWaiting more wait for a
	// place, QueueWait seconds at most, 0 = as many again; the rest gets 429.
	MaxCalls   int `toml:"max_calls"`
	MaxWaiting int `toml:"max_waiting"`
	// RequireKeys asks callers for API keys (cocoon key create), with budgets and
	// rates. KeyStore is where they are: a file, or postgres://…, which several
	// gateways may share and whose password comes from PGPASSWORD or PGPASSFILE;
	// "" = keys.db in Dir.
	RequireKeys bool   `toml:"require_keys"`
	KeyStore    string `toml:"key_store"`
	// Timeout bounds a client's call that names no limit, in seconds.
	Timeout float64 `toml:"timeout"`
	// PowDifficulty is the proof of work asked of those who connect; 0 = 20,
	// -1 = none.
	PowDifficulty int `toml:"pow_difficulty"`
	// CollateralURL is the PCCS or PCS that TDX collateral is fetched from; "" =
	// the vendor's. It is trusted by signature and date alone. With
	// CollateralOffline only what the folder holds is used.
	CollateralURL     string `toml:"collateral_url"`
	CollateralOffline bool   `toml:"collateral_offline"`
	// SealAddress is where the simulated machine's sealing enclave listens;
	// "" = inside this process.
	SealAddress string `toml:"seal_address"`
	// SimulatedSeed is the file with the simulated vendor's secret: the
	// "hardware" of a simulated guest. SimulatedMachine names its processor.
	SimulatedSeed    string `toml:"simulated_seed"`
	SimulatedMachine string `toml:"simulated_machine"`
}

// Default returns a role's configuration before any file or variable.
func Default(role string) Config {
	c := Config{
		Role:     role,
		Measured: Measured{GlobalID: -239, Evidence: string(attest.TDX), Accept: []string{string(attest.TDX)}, Engines: []string{}, EngineArgs: []string{}, SealEnclaves: []string{}, SEVImages: []string{}, Statuses: []string{}, Platforms: []string{}},
		Runtime: Runtime{
			LogLevel: "info", LogFormat: "text",
			Hosts: []string{}, Origins: []string{}, // so that --print-config lists them, as Engines and EngineArgs
			Listen: "127.0.0.1:10000", ListenWorkers: "0.0.0.0:11001", ListenClients: "0.0.0.0:11002",
			Proxies: 1, Coefficient: 1000, MaxCalls: 256, MaxCoefficient: 4000, Timeout: 120,
		},
	}
	c.Measured.Seal = string(api.SealPrefer)
	if role == "client" {
		c.Measured.Evidence = string(attest.None) // clients attest to nobody
	}
	return c
}

// Load reads a role's configuration: defaults, then the file, then COCOON_*
// variables (COCOON_RUNTIME_LISTEN, COCOON_MEASURED_IS_TEST, …). Unknown keys
// are errors.
func Load(role, path string, environ []string) (*Config, error) {
	c := Default(role)
	if path != "" {
		b, err := readSmall(path)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		md, err := toml.NewDecoder(bytes.NewReader(b)).Decode(&c)
		if err != nil {
			var perr toml.ParseError
			if errors.As(err, &perr) {
				return nil, fmt.Errorf("configuration %s, line %d: %s", path, perr.Position.Line, perr.Message)
			}
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
		if extra := md.Undecoded(); len(extra) > 0 {
			return nil, fmt.Errorf("configuration %s%s: unknown key %q; `cocoon %s --print-config` lists all", path, keyLine(b, extra[0]), extra[0], role)
		}
	}
	if c.Role != role {
		return nil, fmt.Errorf("configuration %s is for the role %q: start it with `cocoon %s`", path, c.Role, c.Role)
	}
	if err := c.environment(environ); err != nil {
		return nil, err
	}
	if err := measured(&c); err != nil {
		return nil, err
	}
	if err := c.Runtime.validate(); err != nil {
		return nil, err
	}
	c.Reread = func() (*Config, error) { return Load(role, path, environ) }
	return &c, nil
}

// LoadAny reads a configuration file of whatever role it is for.
func LoadAny(path string, environ []string) (*Config, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var which struct{ Role string }
	if _, err := toml.NewDecoder(bytes.NewReader(b)).Decode(&which); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if !slices.Contains([]string{"client", "proxy", "worker"}, which.Role) {
		return nil, fmt.Errorf("configuration %s: role %q is not client, proxy or worker", path, which.Role)
	}
	return Load(which.Role, path, environ)
}

// keyLine names the line on which a file first holds a key or its table, since
// the decoder does not say where it met what it does not know.
func keyLine(b []byte, key toml.Key) string {
	table, n := "", 0
	for line := range strings.Lines(string(b)) {
		n++
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		name, _, _ := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if strings.HasPrefix(name, "[") {
			table = strings.Trim(name, "[] ")
			name = ""
		}
		if full := strings.Trim(table+"."+name, "."); full == key.String() {
			return fmt.Sprintf(", line %d", n)
		}
	}
	return ""
}

// EngineKeyVariable holds the API key of a worker's engine.
const EngineKeyVariable = "COCOON_ENGINE_KEY"

// engineKey returns the API key of engines named by URL, "" if there is none.
func (c *Config) engineKey() (string, error) {
	if c.key != "" || c.Runtime.EngineKeyFile == "" {
		return c.key, nil
	}
	b, err := readSecret(c.Runtime.EngineKeyFile)
	if err != nil {
		return "", fmt.Errorf("runtime.engine_key_file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// environment applies COCOON_* variables.
func (c *Config) environment(environ []string) error {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == EngineKeyVariable {
			c.key = v
		}
	}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && (strings.HasPrefix(k, "COCOON_RUNTIME_") || strings.HasPrefix(k, "COCOON_MEASURED_")) {
			env[k] = v
		}
	}
	for section, v := range map[string]reflect.Value{"RUNTIME": reflect.ValueOf(&c.Runtime).Elem(), "MEASURED": reflect.ValueOf(&c.Measured).Elem()} {
		for i := range v.NumField() {
			key := "COCOON_" + section + "_" + strings.ToUpper(v.Type().Field(i).Tag.Get("toml"))
			text, ok := env[key]
			if !ok {
				continue
			}
			delete(env, key)
			if err := setField(v.Field(i), text); err != nil {
				return fmt.Errorf("environment: %s: %w", key, err)
			}
		}
	}
	for k := range env {
		return fmt.Errorf("environment: %s names no configuration key; `cocoon %s --print-config` lists all", k, c.Role)
	}
	return nil
}

func setField(f reflect.Value, text string) error {
	switch f.Kind() {
	case reflect.String:
		f.SetString(text)
	case reflect.Bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		f.SetBool(v)
	case reflect.Int, reflect.Int32:
		v, err := strconv.ParseInt(text, 10, f.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not an integer", text)
		}
		f.SetInt(v)
	case reflect.Float64:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		f.SetFloat(v)
	case reflect.Slice:
		f.Set(reflect.ValueOf(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })))
	}
	return nil
}

// Write prints the configuration as TOML. It holds no secrets, only the names
// of files that do.
func (c *Config) Write(w io.Writer) error { return toml.NewEncoder(w).Encode(c) }

// maxSeconds bounds times of the configuration: a day.
const maxSeconds = 24 * 3600

// validate refuses numbers that would not do what they seem to say. A pause of
// -1, for instance, would be none at all, and cost gas at every turn.
func (r *Runtime) validate() error {
	for _, f := range []struct {
		key string
		v   float64
	}{{"every", r.Every}, {"mark_every", r.MarkEvery}, {"anchor_every", r.AnchorEvery}, {"timeout", r.Timeout}, {"queue_wait", r.QueueWait}} {
		if !(f.v >= 0 && f.v <= maxSeconds) { // NaN is neither
			return fmt.Errorf("configuration: runtime.%s is %v: set seconds from 0 to %d", f.key, f.v, maxSeconds)
		}
	}
	for _, f := range []struct {
		key  string
		v    int
		most int
	}{
		{"proxies", r.Proxies, 1000}, {"coefficient", int(r.Coefficient), 999_999_999},
		{"engine_slots", r.EngineSlots, 65536}, {"engine_instances", r.EngineInstances, 64}, {"engine_gpus", r.EngineGPUs, 64}, {"engine_context", r.EngineContext, 1 << 24},
		{"max_active_requests", r.MaxActive, 1_000_000}, {"max_calls", r.MaxCalls, 1_000_000}, {"max_waiting", r.MaxWaiting, 1_000_000}, {"max_coefficient", int(r.MaxCoefficient), math.MaxInt32},
	} {
		if f.v < 0 || f.v > f.most {
			return fmt.Errorf("configuration: runtime.%s is %d: set a number from 0 to %d", f.key, f.v, f.most)
		}
	}
	return nil
}

// timeout is Runtime.Timeout as a duration.
func (r *Runtime) timeout() time.Duration { return time.Duration(r.Timeout * float64(time.Second)) }

func (r *Runtime) every() time.Duration { return seconds(r.Every) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// amount reads an amount of coins; "" is 0.
func amount(key, text string) (coins.Nano, error) {
	if text == "" {
		return 0, nil
	}
	n, err := coins.Parse(text)
	if err != nil {
		return 0, fmt.Errorf("configuration: runtime.%s: %w", key, err)
	}
	return n, nil
}

// owner reads Runtime.Owner.
func (r *Runtime) owner() (cocoon.Address, error) {
	if r.Owner == "" {
		return cocoon.Address{}, errors.New("configuration: runtime.owner is missing: set the owner address")
	}
	a, err := cocoon.ParseAddress(r.Owner)
	if err != nil {
		return a, fmt.Errorf("configuration: runtime.owner: %w", err)
	}
	return a, nil
}

// Logger makes the process's logger.
func (r *Runtime) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.LogLevel)); err != nil {
		return nil, fmt.Errorf("configuration: runtime.log_level %q is not debug, info, warn or error", r.LogLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch r.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("configuration: runtime.log_format %q is not text or json", r.LogFormat)
}

// maxSmallFile bounds configuration, key and secret files.
const maxSmallFile = 1 << 20

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSmallFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSmallFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSmallFile)
	}
	return b, nil
}
