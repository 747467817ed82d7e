package access

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"time"
)

// Config says which chain is meant and how to reach it.
type Config struct {
	// GlobalConfig is TON's global configuration in JSON: zero state and init
	// block, which are believed, and liteservers, which are not.
	GlobalConfig []byte
	// Servers replaces the liteservers of GlobalConfig, which a measured
	// configuration need not hold; nil = those.
	Servers []Server
	// Dir keeps the high-water mark, and the checkpoint if there is a
	// CheckpointKey; "" = only in memory. Several processes may share it.
	Dir string
	// CheckpointKey authenticates the newest proven key block, from which the
	// next Open goes on. Nobody who is not trusted with the init block may know
	// it: in a measured image it is a sealed key. Nil = every Open starts from
	// the init block.
	CheckpointKey []byte
	// MaxAge is how old the newest proven block may be; 0 = 60 s.
	MaxAge time.Duration
	// Timeout bounds one query; 0 = 5 s.
	Timeout time.Duration
	// MaxAnswer bounds one answer in bytes; 0 = 4 MiB, which takes at worst
	// some 200 MB for the moment of reading it.
	MaxAnswer int
	// Logger may be nil.
	Logger *slog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Dial opens TCP connections; nil = net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Server is a liteserver: its address and the key it must prove.
type Server struct {
	Address   string // ip:port
	PublicKey [32]byte
}

// zeroState names the chain.
type zeroState struct{ root, file [32]byte }

// trust is what the configuration makes us believe.
type trust struct {
	zero zeroState
	init blockID
}

const (
	maxGlobalConfig = 1 << 20
	maxServers      = 256
	masterchain     = -1
	fullShard       = math.MinInt64
)

// hash reads 32 bytes in base64 or hex.
type hash [32]byte

func (h *hash) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) != 32 {
		raw, err = hex.DecodeString(s)
	}
	if err != nil || len(raw) != 32 {
		return fmt.Errorf("%q is not a hash of 32 bytes", s)
	}
	*h = hash(raw)
	return nil
}

type configBlock struct {
	Workchain *int32 `json:"workchain"`
	Shard     *int64 `json:"shard"`
	Seqno     uint32 `json:"seqno"`
	RootHash  *hash  `json:"root_hash"`
	FileHash  *hash  `json:"file_hash"`
}

func (b *configBlock) check(name string) error {
	switch {
	case b.RootHash == nil || b.FileHash == nil:
		return fmt.Errorf("validator.%s has no root_hash or file_hash", name)
	case b.Workchain == nil || *b.Workchain != masterchain:
		return fmt.Errorf("validator.%s is not of workchain -1", name)
	case b.Shard == nil || *b.Shard != fullShard:
		return fmt.Errorf("validator.%s is not of shard %d", name, int64(fullShard))
	}
	return nil
}

// parseGlobalConfig reads what is to be believed and the liteservers.
func parseGlobalConfig(b []byte) (trust, []Server, error) {
	var t trust
	if len(b) > maxGlobalConfig {
		return t, nil, noted(ErrConfig, fmt.Sprintf("it has %d bytes, %d are allowed", len(b), maxGlobalConfig))
	}
	var g struct {
		Liteservers []struct {
			IP   int64 `json:"ip"`
			Port int   `json:"port"`
			ID   struct {
				Key hash `json:"key"`
			} `json:"id"`
		} `json:"liteservers"`
		Validator struct {
			ZeroState *configBlock `json:"zero_state"`
			InitBlock *configBlock `json:"init_block"`
		} `json:"validator"`
	}
	if err := json.Unmarshal(b, &g); err != nil {
		return t, nil, noted(ErrConfig, err)
	}
	zero, first := g.Validator.ZeroState, g.Validator.InitBlock
	if zero == nil {
		return t, nil, noted(ErrConfig, "validator.zero_state is missing")
	}
	if err := zero.check("zero_state"); err != nil {
		return t, nil, noted(ErrConfig, err)
	}
	if zero.Seqno != 0 {
		return t, nil, noted(ErrConfig, fmt.Sprintf("validator.zero_state has seqno %d", zero.Seqno))
	}
	if first == nil || first.RootHash == nil || first.Seqno == 0 {
		return t, nil, fmt.Errorf("%w: validator.init_block must name a key block with seqno 1 or more; proofs start there", ErrNoInitBlock)
	}
	if err := first.check("init_block"); err != nil {
		return t, nil, noted(ErrConfig, err)
	}
	t.zero = zeroState{root: *zero.RootHash, file: *zero.FileHash}
	t.init = blockID{seqno: first.Seqno, root: *first.RootHash, file: *first.FileHash}

	if len(g.Liteservers) > maxServers {
		return t, nil, noted(ErrConfig, fmt.Sprintf("%d liteservers, %d are allowed", len(g.Liteservers), maxServers))
	}
	var servers []Server
	for i, s := range g.Liteservers {
		if s.IP < math.MinInt32 || s.IP > math.MaxUint32 || s.Port <= 0 || s.Port > math.MaxUint16 {
			return t, nil, noted(ErrConfig, fmt.Sprintf("liteserver %d: ip %d, port %d is no address", i, s.IP, s.Port))
		}
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], uint32(s.IP)) // the JSON has it signed
		servers = append(servers, Server{
			Address:   netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(s.Port)).String(),
			PublicKey: s.ID.Key,
		})
	}
	return t, servers, nil
}

// prepare fills defaults and reads the global configuration.
func (cfg *Config) prepare() (trust, []Server, error) {
	t, servers, err := parseGlobalConfig(cfg.GlobalConfig)
	if err != nil {
		return t, nil, err
	}
	if cfg.Servers != nil {
		servers = cfg.Servers
	}
	if len(servers) == 0 {
		return t, nil, noted(ErrConfig, "it names no liteserver")
	}
	for _, s := range servers {
		if len(s.PublicKey) != ed25519.PublicKeySize || s.PublicKey == ([32]byte{}) {
			return t, nil, noted(ErrConfig, errors.New("liteserver "+s.Address+" has no key"))
		}
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = time.Minute
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.MaxAnswer == 0 {
		cfg.MaxAnswer = 4 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	return t, servers, nil
}
