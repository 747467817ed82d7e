//go:build !tee

package attest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// A peer presents evidence that binds its key; what is accepted is said by a
// policy. Simulated hardware stands in for a processor here.
func ExampleVerify() {
	vendor, err := simulated.New([]byte("a secret of at least 32 bytes for tests"))
	if err != nil {
		panic(err)
	}
	image := simulated.Image("worker")
	guest, err := vendor.NewGuest(simulated.GuestConfig{Registers: image})
	if err != nil {
		panic(err)
	}
	key := [32]byte{1, 2, 3} // the Ed25519 key of the peer's certificate
	evidence, err := guest.Attest(context.Background(), attest.KeyReportData(key))
	if err != nil {
		panic(err)
	}

	now := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	policy := attest.SimulatedPolicy(vendor.RootKeyID(), attest.ListedImages(image.Hash()))
	result, err := attest.Verify(evidence, attest.KeyReportData(key), nil, policy, now)
	fmt.Println(result.Kind, result.ImageHash == image.Hash(), err)

	_, err = attest.Verify(evidence, attest.KeyReportData(key), nil, attest.HardwarePolicy(attest.DeferredImages()), now)
	for _, f := range attest.Factors(err) {
		fmt.Println(f.Name, f.Result)
	}
	// Output:
	// simulated true <nil>
	// format pass
	// root key fail
}

// Hashes and ids are hex in text, in exactly their length.
func ExampleImageHash() {
	var h attest.ImageHash
	fmt.Println(h.UnmarshalText([]byte("12")) != nil, h.UnmarshalText([]byte(attest.FakeTDXImage.String())), h.Proven())
	// Output: true <nil> false
}
