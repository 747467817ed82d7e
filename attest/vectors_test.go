package attest_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyReportData is the vector of spec attestation 1.2.
func TestKeyReportData(t *testing.T) {
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	want := "3d94eea49c580aef816935762be049559d6d1440dede12e6a125f1841fff8e6fa9d71862a3e5746b571be3d187b0041046f52ebd850c7cbd5fde8ee38473b649"
	if got := attest.KeyReportData(key); hex.EncodeToString(got[:]) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

// TestImageHash holds the vectors of spec attestation 1.3, 2.4 and 6.3.
func TestImageHash(t *testing.T) {
	fill := func(b byte) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, 48)) }
	zero := fill(0)
	for name, c := range map[string]struct {
		registers [8]string
		want      string
	}{
		"all zero is the constant of fake peers": {
			[8]string{zero, zero, zero, zero, zero, zero, zero, zero},
			attest.FakeTDXImage.String(),
		},
		"synthetic": {
			[8]string{fill(0x12), fill(0x34), fill(0xaa), fill(0xbb), fill(0x61), fill(0x62), fill(0x63), fill(0x64)},
			"36caf4e8958afa865b8ccc68f1c6f40bc7bddb11150bf437f6fed58b1ca26000",
		},
		"sample quote": {
			[8]string{
				"7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114",
				zero, zero, zero,
				"251a7f3cfc68006349444307c686485986beea461740437dae618e22a7aaac4ec0233ae0190eb1ce92ab8e9966563acc",
				"7a6eb32a914226f429922564bb0ae0a7c7c413ba5a8ef055b481f6328108da335013b79c391dcc237f7e563674ce7787",
				"aaccda38cf2bdee9965664d6793c9eaa93349564a052f36db45da5db656abe7b909d92cad5a29287f2bb78761771fec4",
				zero,
			},
			"04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m []attest.Measurement
			for _, r := range c.registers {
				m = append(m, attest.Measurement{Value: unhex(t, r)})
			}
			if got := attest.TDXImageHash(m).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestQEBindingVector recomputes the QE report data of the sample quote from
// its attestation key and auth data (spec attestation 2.4).
func TestQEBindingVector(t *testing.T) {
	var key [64]byte
	copy(key[:], unhex(t, "570c7467db712b095d79eda79767e18b34dc89997b4f78c6e2eed70b15f0d2b366043591be43d3abfbea868d78b8a31e281f4bbe77cdbe5bd80e6a4130ef1982"))
	auth := make([]byte, 32)
	for i := range auth {
		auth[i] = byte(i)
	}
	got := dcap.QEBinding(key, auth)
	if !bytes.Equal(got[32:], make([]byte, 32)) {
		t.Errorf("the second half is %x, want zeros", got[32:])
	}
	if auth[0]++; got == dcap.QEBinding(key, auth) {
		t.Error("the auth data is not bound")
	}
}
