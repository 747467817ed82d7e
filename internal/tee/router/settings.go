package router

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
	"github.com/cocoon-network/cocoon/internal/wire/pow"
)

// ErrSettings is the cause of everything that a router cannot be started with.
var ErrSettings = errors.New("router")

func settingsError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrSettings}, args...)...)
}

// Settings are what a router is told by its command line and its JSON file,
// in the reference's words of both generations (spec attestation 4.2,
// changes-2026-04 14.4).
type Settings struct {
	// CertBase names the certificate's files. "": see ServerConfig.Identity.
	CertBase string
	Rules    []Rule
	Ports    []Port
	// Roots are Intel's root keys for rules that name none. Empty: IntelRoot.
	Roots []attest.KeyID
	// Difficulty and MaxDifficulty are those of the proof of work, 0 to 64.
	Difficulty, MaxDifficulty int
}

// DefaultSettings has no port yet.
func DefaultSettings() Settings {
	return Settings{Difficulty: pow.DefaultDifficulty, MaxDifficulty: pow.DefaultMaxDifficulty}
}

// Simulated reports whether a policy trusts a simulated network.
func (s *Settings) Simulated() bool {
	return slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.Kind == Simulated })
}

// PortKind is what a port does.
type PortKind string

// The kinds of ports, by their names in files.
const (
	SOCKS5  PortKind = "socks5"
	Forward PortKind = "forward"
	Reverse PortKind = "reverse"
)

// Port is one port of a router.
type Port struct {
	Number int
	Kind   PortKind
	// Rule is the name of the policy that peers are held to.
	Rule string
	// Host and Target are where forward and reverse ports connect to.
	Host   string
	Target int
	// RuleFromUser lets SOCKS5 callers choose the rule by their user name.
	RuleFromUser bool
	// Info has the preamble written.
	Info bool
}

// The lowest and the highest port number accepted.
const (
	minPort = 1024
	maxPort = 65535
)

func (p *Port) validate() error {
	switch {
	case p.Number < minPort || p.Number > maxPort:
		return settingsError("port %d: a port is %d to %d", p.Number, minPort, maxPort)
	case p.Rule == "":
		return settingsError("port %d names no policy", p.Number)
	case p.Kind == SOCKS5 && (p.Host != "" || p.Target != 0):
		return settingsError("port %d: a SOCKS5 port has no destination, its callers name it", p.Number)
	case p.Kind == SOCKS5:
		return nil
	case p.Kind != Forward && p.Kind != Reverse:
		return settingsError("port %d: type %q is not socks5, forward or reverse", p.Number, p.Kind)
	case p.Host == "" || p.Target < minPort || p.Target > maxPort:
		return settingsError("port %d: a %s port needs a destination, host and port of %d to %d", p.Number, p.Kind, minPort, maxPort)
	case p.RuleFromUser:
		return settingsError("port %d: only SOCKS5 ports know user names", p.Number)
	}
	return nil
}

// RuleKind is the type of a policy.
type RuleKind string

// The types: those of the reference's two generations, and ours for simulated
// networks.
const (
	Any       RuleKind = "any"
	FakeTDX   RuleKind = "fake_tdx"
	TDX       RuleKind = "tdx"
	FakeTEE   RuleKind = "fake_tee"
	TEE       RuleKind = "tee"
	Simulated RuleKind = "simulated"
)

// builtins always exist, without constraints.
var builtins = []RuleKind{Any, FakeTDX, TDX, FakeTEE, TEE}

// generation is the layout of the preamble that goes with a type's name.
func (k RuleKind) generation() Layout {
	switch k {
	case FakeTDX, TDX:
		return December
	case FakeTEE, TEE:
		return April
	}
	return 0
}

// Rule is a named policy. Empty lists mean any.
type Rule struct {
	Name string
	Kind RuleKind
	// MRTDs, RTMRs and Images constrain TDX peers.
	MRTDs  [][48]byte
	RTMRs  [][4][48]byte
	Images []attest.ImageHash
	// Roots are the root keys trusted; needed for Simulated.
	Roots []attest.KeyID
	// SEVMeasurements are launch measurements, each of an image that measures
	// its kernel, initrd and command line; SEVMinTCB is the lowest patch level.
	// Without both no SEV-SNP peer is accepted.
	SEVMeasurements [][48]byte
	SEVMinTCB       sevsnp.TCB
}

// ParseFile reads a router's JSON file. Keys it does not know are refused: a
// constraint under a wrong name would otherwise constrain nobody.
func ParseFile(text []byte) (Settings, error) {
	s := DefaultSettings()
	if len(text) > 1<<20 {
		return s, settingsError("a configuration of %d bytes", len(text))
	}
	var f file
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return s, settingsError("the configuration file: %v", err)
	}
	if d.More() {
		return s, settingsError("the configuration file: more than one object")
	}
	if f.Threads < 0 {
		return s, settingsError("the configuration file: threads is negative")
	}
	s.CertBase = f.CertBase
	for _, p := range f.Policies {
		r, err := p.rule()
		if err != nil {
			return s, settingsError("policy %q: %v", p.Name, err)
		}
		s.Rules = append(s.Rules, r)
	}
	for _, p := range f.Ports {
		s.Ports = append(s.Ports, Port{
			Number: int(p.Port), Kind: PortKind(p.Type), Rule: p.Policy, Host: p.Host, Target: int(p.Destination),
			RuleFromUser: p.FromUser, Info: p.Info,
		})
	}
	return s, nil
}

type file struct {
	CertBase string       `json:"cert_base_name"`
	Threads  number       `json:"threads"` // of no meaning here
	Policies []filePolicy `json:"policies"`
	Ports    []filePort   `json:"ports"`
}

type filePort struct {
	Port        number `json:"port"`
	Type        string `json:"type"`
	Policy      string `json:"policy_name"`
	Host        string `json:"destination_host"`
	Destination number `json:"destination_port"`
	FromUser    bool   `json:"allow_policy_from_username"`
	Info        bool   `json:"serialize_info"`
	// Read and overruled by the command line, as in the reference.
	Difficulty    number `json:"pow_difficulty"`
	MaxDifficulty number `json:"max_pow_difficulty"`
}

type filePolicy struct {
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	Description string   `json:"description"`
	TDX         *fileTDX `json:"tdx_config"` // December
	RATLS       *struct {
		TDX *fileTDX `json:"tdx_config"`
		SEV *fileSEV `json:"sev_config"`
	} `json:"ratls_policy"` // April
}

type fileTDX struct {
	MRTD   []string   `json:"allowed_mrtd"`
	RTMR   [][]string `json:"allowed_rtmr"`
	Images list       `json:"allowed_image_hashes"`
	Image  list       `json:"allowed_image_hash"`
	Roots  list       `json:"allowed_collateral_root_hashes"`
}

type fileSEV struct {
	Measurements list `json:"allowed_measurement"`
	Images       list `json:"allowed_image_id"`
	// MinTCB is ours: parts of a patch level.
	MinTCB struct {
		FMC        uint8 `json:"fmc"`
		BootLoader uint8 `json:"bootloader"`
		TEE        uint8 `json:"tee"`
		SNP        uint8 `json:"snp"`
		Microcode  uint8 `json:"microcode"`
	} `json:"min_tcb"`
}

func (p *filePolicy) rule() (Rule, error) {
	r := Rule{Name: p.Name, Kind: RuleKind(p.Type)}
	tdx, sev := p.TDX, (*fileSEV)(nil)
	if p.RATLS != nil {
		if tdx != nil {
			return r, errors.New("both tdx_config and ratls_policy")
		}
		tdx, sev = p.RATLS.TDX, p.RATLS.SEV
	} else if tdx != nil && r.Kind.generation() == April {
		return r, fmt.Errorf("a policy of type %s has its tdx_config inside ratls_policy", r.Kind)
	}
	if tdx != nil {
		for _, h := range tdx.MRTD {
			m, err := parseHex[[48]byte](h)
			if err != nil {
				return r, fmt.Errorf("allowed_mrtd: %v", err)
			}
			r.MRTDs = append(r.MRTDs, m)
		}
		for _, four := range tdx.RTMR {
			if len(four) != 4 {
				return r, fmt.Errorf("allowed_rtmr: a list of %d registers, not 4", len(four))
			}
			var m [4][48]byte
			for i, h := range four {
				var err error
				if m[i], err = parseHex[[48]byte](h); err != nil {
					return r, fmt.Errorf("allowed_rtmr: %v", err)
				}
			}
			r.RTMRs = append(r.RTMRs, m)
		}
		for _, h := range slices.Concat(tdx.Images, tdx.Image) {
			m, err := parseHex[attest.ImageHash](h)
			if err != nil {
				return r, fmt.Errorf("allowed_image_hashes: %v", err)
			}
			r.Images = append(r.Images, m)
		}
		for _, h := range tdx.Roots {
			m, err := parseHex[attest.KeyID](h)
			if err != nil {
				return r, fmt.Errorf("allowed_collateral_root_hashes: %v", err)
			}
			r.Roots = append(r.Roots, m)
		}
	}
	if sev != nil {
		if len(sev.Images) > 0 {
			return r, errors.New("allowed_image_id: image ids are chosen by who launches a guest; list measurements")
		}
		for _, h := range sev.Measurements {
			m, err := parseHex[[48]byte](h)
			if err != nil {
				return r, fmt.Errorf("allowed_measurement: %v", err)
			}
			r.SEVMeasurements = append(r.SEVMeasurements, m)
		}
		t := sev.MinTCB
		r.SEVMinTCB = sevsnp.TCB{FMC: t.FMC, BootLoader: t.BootLoader, TEE: t.TEE, SNP: t.SNP, Microcode: t.Microcode}
	}
	return r, nil
}

// parseHex reads an array of bytes.
func parseHex[T ~[32]byte | ~[48]byte](s string) (v T, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(v) {
		return v, fmt.Errorf("%q is not %d hex digits", s, 2*len(v))
	}
	for i := range b {
		v[i] = b[i]
	}
	return v, nil
}

// number is an integer that may be written as a string.
type number int

func (n *number) UnmarshalJSON(b []byte) error {
	i, err := strconv.Atoi(strings.Trim(string(b), `"`))
	if err != nil {
		return fmt.Errorf("%s is not a whole number", b)
	}
	*n = number(i)
	return nil
}

// list is a list of strings, or one string.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// ParseRule reads --policy: name:type[:hash,...], where a hash may have a
// prefix tdx@ or sev@. SEV lists need a patch level and therefore a file.
func ParseRule(text string) (Rule, error) {
	name, rest, ok := strings.Cut(text, ":")
	if !ok || name == "" {
		return Rule{}, settingsError("policy %q: it is NAME:TYPE[:HASH,...]", text)
	}
	kind, hashes, _ := strings.Cut(rest, ":")
	r := Rule{Name: name, Kind: RuleKind(kind)}
	for h := range strings.SplitSeq(hashes, ",") {
		if hashes == "" {
			break
		}
		if family, _, ok := strings.Cut(h, "@"); ok && family != "tdx" {
			return Rule{}, settingsError("policy %q: only images of TDX can be listed here; SEV-SNP needs a lowest patch level too, in a file", name)
		}
		image, err := parseHex[attest.ImageHash](strings.TrimPrefix(h, "tdx@"))
		if err != nil {
			return Rule{}, settingsError("policy %q: %v", name, err)
		}
		r.Images = append(r.Images, image)
	}
	return r, nil
}

// AddPort adds the port that a flag of the given kind describes:
// PORT@POLICY[:HASH,...] for SOCKS5, else PORT:HOST:PORT@POLICY[:HASH,...].
func (s *Settings) AddPort(kind PortKind, text string, info bool) error {
	where, policy, ok := strings.Cut(text, "@")
	if !ok || policy == "" {
		return settingsError("%s port %q: a policy is named after @", kind, text)
	}
	p := Port{Kind: kind, Info: info}
	parts := strings.Split(where, ":")
	if want := map[PortKind]int{SOCKS5: 1, Forward: 3, Reverse: 3}[kind]; len(parts) != want {
		return settingsError("%s port %q: it is %s", kind, text, map[PortKind]string{SOCKS5: "PORT@POLICY", Forward: "PORT:HOST:PORT@POLICY", Reverse: "PORT:HOST:PORT@POLICY"}[kind])
	}
	var err error
	if p.Number, err = strconv.Atoi(parts[0]); err != nil {
		return settingsError("%s port %q: %q is no port", kind, text, parts[0])
	}
	if len(parts) == 3 {
		p.Host = parts[1]
		if p.Target, err = strconv.Atoi(parts[2]); err != nil {
			return settingsError("%s port %q: %q is no port", kind, text, parts[2])
		}
	}
	name, hashes, inline := strings.Cut(policy, ":")
	p.Rule = name
	if inline {
		if !slices.Contains(builtins, RuleKind(name)) {
			return settingsError("%s port %q: images are listed here for built-in policies only; give %q its own with --policy", kind, text, name)
		}
		p.Rule = fmt.Sprintf("%s_inline_%d", name, p.Number)
		r, err := ParseRule(p.Rule + ":" + name + ":" + hashes)
		if err != nil {
			return err
		}
		s.Rules = append(s.Rules, r)
	}
	s.Ports = append(s.Ports, p)
	return p.validate()
}

// AddLegacyPort adds the port of the old flag: PORT:TYPE[:POLICY[:HOST:PORT]].
func (s *Settings) AddLegacyPort(text string, info bool) error {
	parts := strings.Split(text, ":")
	bad := settingsError("port %q: it is PORT:TYPE[:POLICY[:HOST:PORT]]", text)
	if len(parts) != 2 && len(parts) != 3 && len(parts) != 5 {
		return bad
	}
	p := Port{Kind: PortKind(parts[1]), Rule: string(Any), Info: info}
	var err error
	if p.Number, err = strconv.Atoi(parts[0]); err != nil {
		return bad
	}
	if len(parts) > 2 {
		p.Rule = parts[2]
	}
	if len(parts) == 5 {
		p.Host = parts[3]
		if p.Target, err = strconv.Atoi(parts[4]); err != nil {
			return bad
		}
	}
	s.Ports = append(s.Ports, p)
	return p.validate()
}
