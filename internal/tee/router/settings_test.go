package router

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
)

// hx is n bytes in hex, all the same.
func hx(b byte, n int) string { return strings.Repeat(fmt.Sprintf("%02x", b), n) }

func fill[T ~[32]byte | ~[48]byte](b byte) (v T) {
	for i := range len(v) {
		v[i] = b
	}
	return v
}

func TestFile(t *testing.T) {
	ports := `"ports":[{"port":"8116","type":"socks5","policy_name":"p","allow_policy_from_username":true},
		{"port":11001,"type":"reverse","policy_name":"any","destination_host":"localhost","destination_port":11101,"serialize_info":true,"pow_difficulty":1,"max_pow_difficulty":"2"}]`
	tdx := `{"allowed_mrtd":["` + hx(1, 48) + `"],"allowed_rtmr":[["` + hx(2, 48) + `","` + hx(3, 48) + `","` + hx(4, 48) + `","` + hx(5, 48) + `"]],
		"allowed_image_hashes":"` + hx(6, 32) + `","allowed_image_hash":["` + hx(7, 32) + `"],"allowed_collateral_root_hashes":["` + hx(8, 48) + `"]}`
	wantPorts := []Port{
		{Number: 8116, Kind: SOCKS5, Rule: "p", RuleFromUser: true},
		{Number: 11001, Kind: Reverse, Rule: "any", Host: "localhost", Target: 11101, Info: true},
	}
	wantTDX := Rule{
		Name: "p", Kind: TDX, MRTDs: [][48]byte{fill[[48]byte](1)},
		RTMRs:  [][4][48]byte{{fill[[48]byte](2), fill[[48]byte](3), fill[[48]byte](4), fill[[48]byte](5)}},
		Images: []attest.ImageHash{fill[attest.ImageHash](6), fill[attest.ImageHash](7)}, Roots: []attest.KeyID{fill[attest.KeyID](8)},
	}
	wantTEE := wantTDX
	wantTEE.Kind = TEE
	wantTEE.SEVMeasurements = [][48]byte{fill[[48]byte](9)}
	wantTEE.SEVMinTCB = sevsnp.TCB{BootLoader: 4, SNP: 22, Microcode: 213}
	for name, c := range map[string]struct {
		policy string
		want   Rule
	}{
		"December": {`{"name":"p","type":"tdx","description":"x","tdx_config":` + tdx + `}`, wantTDX},
		"April":    {`{"name":"p","type":"tee","ratls_policy":{"tdx_config":` + tdx + `,"sev_config":{"allowed_measurement":"` + hx(9, 48) + `","min_tcb":{"bootloader":4,"snp":22,"microcode":213}}}}`, wantTEE},
	} {
		s, err := ParseFile([]byte(`{"cert_base_name":"/etc/tee/tee","threads":"0","policies":[` + c.policy + `],` + ports + `}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(s.Ports, wantPorts) || !reflect.DeepEqual(s.Rules, []Rule{c.want}) || s.CertBase != "/etc/tee/tee" || s.Difficulty != 20 || s.MaxDifficulty != 28 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for name, text := range map[string]string{
		"no JSON":            `{`,
		"two objects":        `{} {}`,
		"unknown key":        `{"port":1}`,
		"threads":            `{"threads":-1}`,
		"no number":          `{"ports":[{"port":"x"}]}`,
		"wrong place":        `{"policies":[{"name":"p","type":"tee","tdx_config":{}}]}`,
		"both places":        `{"policies":[{"name":"p","type":"tdx","tdx_config":{},"ratls_policy":{}}]}`,
		"three registers":    `{"policies":[{"name":"p","type":"tdx","tdx_config":{"allowed_rtmr":[["` + hx(1, 48) + `"]]}}]}`,
		"short register":     `{"policies":[{"name":"p","type":"tdx","tdx_config":{"allowed_rtmr":[["00","00","00","00"]]}}]}`,
		"short MRTD":         `{"policies":[{"name":"p","type":"tdx","tdx_config":{"allowed_mrtd":["00"]}}]}`,
		"no image":           `{"policies":[{"name":"p","type":"tdx","tdx_config":{"allowed_image_hashes":["zz"]}}]}`,
		"no root":            `{"policies":[{"name":"p","type":"tdx","tdx_config":{"allowed_collateral_root_hashes":["zz"]}}]}`,
		"list of numbers":    `{"policies":[{"name":"p","type":"tdx","tdx_config":{"allowed_image_hashes":[1]}}]}`,
		"image id":           `{"policies":[{"name":"p","type":"tee","ratls_policy":{"sev_config":{"allowed_image_id":["x"]}}}]}`,
		"short measurement":  `{"policies":[{"name":"p","type":"tee","ratls_policy":{"sev_config":{"allowed_measurement":["x"]}}}]}`,
		"more than it needs": strings.Repeat(" ", 1<<20) + `{}`,
	} {
		if _, err := ParseFile([]byte(text)); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFlags(t *testing.T) {
	image := hx(6, 32)
	s := DefaultSettings()
	for _, err := range []error{
		s.AddPort(SOCKS5, "8116@tee", true),
		s.AddPort(SOCKS5, "8117@tdx:"+image, false),
		s.AddPort(Forward, "9000:10.0.0.1:11001@mine", true),
		s.AddPort(Reverse, "11001:localhost:11101@any", true),
		s.AddLegacyPort("8118:socks5", true),
		s.AddLegacyPort("8119:reverse:tdx:localhost:11102", false),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []Port{
		{Number: 8116, Kind: SOCKS5, Rule: "tee", Info: true},
		{Number: 8117, Kind: SOCKS5, Rule: "tdx_inline_8117"},
		{Number: 9000, Kind: Forward, Rule: "mine", Host: "10.0.0.1", Target: 11001, Info: true},
		{Number: 11001, Kind: Reverse, Rule: "any", Host: "localhost", Target: 11101, Info: true},
		{Number: 8118, Kind: SOCKS5, Rule: "any", Info: true},
		{Number: 8119, Kind: Reverse, Rule: "tdx", Host: "localhost", Target: 11102},
	}
	if !reflect.DeepEqual(s.Ports, want) {
		t.Errorf("%+v", s.Ports)
	}
	if len(s.Rules) != 1 || s.Rules[0].Name != "tdx_inline_8117" || len(s.Rules[0].Images) != 1 {
		t.Errorf("%+v", s.Rules)
	}
	r, err := ParseRule("mine:tee:" + image + ",tdx@" + hx(7, 32))
	if err != nil || r.Name != "mine" || r.Kind != TEE || len(r.Images) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, text := range []string{"", "x", ":tdx", "x:tdx:zz", "x:tee:sev@" + hx(1, 48), "x:tdx:"} {
		if _, err := ParseRule(text); (err == nil) != (text == "x:tdx:") || err != nil && !errors.Is(err, ErrSettings) {
			t.Errorf("policy %q: %v", text, err)
		}
	}
	for kind, texts := range map[PortKind][]string{
		SOCKS5:  {"", "8116", "8116@", "x@any", "80@any", "70000@any", "8116:a:1@any", "8116@mine:" + image, "8116@tdx:zz"},
		Forward: {"9000@any", "9000:a@any", "9000:a:x@any", "9000::9001@any", "9000:a:80@any"},
		Reverse: {"x:a:9001@any", "9000:a:9001:9@any"},
	} {
		for _, text := range texts {
			if err := s.AddPort(kind, text, false); !errors.Is(err, ErrSettings) {
				t.Errorf("%s %q: %v", kind, text, err)
			}
		}
	}
	for _, text := range []string{"", "8116", "x:socks5", "8116:socks4", "8116:reverse:any", "8116:reverse:any:a", "8116:reverse:any:a:x"} {
		if err := s.AddLegacyPort(text, false); !errors.Is(err, ErrSettings) {
			t.Errorf("legacy %q: %v", text, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"policies":[{"name":"p","type":"tdx","tdx_config":{"allowed_mrtd":["` + hx(1, 48) + `"]}}],"ports":[{"port":"8116","type":"socks5","policy_name":"p"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseFile(b)
		if err != nil && !errors.Is(err, ErrSettings) {
			t.Errorf("%v", err)
		}
		if again, err2 := ParseFile(b); (err == nil) != (err2 == nil) || !reflect.DeepEqual(s, again) {
			t.Error("two readings differ")
		}
	})
}
