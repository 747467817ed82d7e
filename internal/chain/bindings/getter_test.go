package bindings

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestMethodIDs(t *testing.T) {
	for m, id := range map[Method]uint32{
		MethodRootData: 96613, MethodRootParams: 89457, MethodLastProxySeqno: 65647, MethodProxyHashValid: 129381,
		MethodWorkerHashValid: 95753, MethodModelHashValid: 72587, MethodProxyData: 97687, MethodWorkerData: 106427,
		MethodClientData: 75156, MethodWalletSeqno: 85143, MethodWalletKey: 78748, MethodWalletOwner: 114619,
	} {
		if m.ID() != id {
			t.Errorf("%s is %d, want %d", m, m.ID(), id)
		}
	}
}

// results reads values as spec contracts 16.3 writes them.
func results(t *testing.T, text string) []StackValue {
	t.Helper()
	var out []StackValue
	for v := range strings.SplitSeq(text, ", ") {
		if a, ok := strings.CutPrefix(v, "slice:"); ok {
			b, err := newWriter().addr(raw(a)).serialize()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, StackValue{Slice: b})
			continue
		}
		n, ok := new(big.Int).SetString(v, 0)
		if !ok {
			t.Fatalf("%q is no number", v)
		}
		out = append(out, StackValue{Int: n})
	}
	return out
}

func TestGetterVectors(t *testing.T) {
	root, err := DecodeRootInfo(results(t, "42, 3, 5, 17, 0, 20, 19, 10000000000, 2500000000, slice:0:1111111111111111111111111111111111111111111111111111111111111111"))
	if want := (RootInfo{42, 3, 5, 17, false, 20, 19, 10 * ton, 2500000000, rootOwner}); err != nil || root != want {
		t.Errorf("root %+v, %v", root, err)
	}
	params, err := DecodeRootParams(results(t, "5, 17, 0, 20, 19, 1000, 80000, 86400, 43200, 10000000000, 2500000000, 0x7cd3bd12514323c736210f0215c6d8bbcfc169ad284444ad9652e082d4e259a, 0x469229aa33e4422ccb53f329aec80a3a5a1a270757dde4a8a2289d15ca50c15f, 0x3091f8eb8dcd944558b6b2ce13a19cb08d24f899d1e26aff1fad26ec31b44dfb"))
	if err != nil || params.CachedMult != 1000 || params.ReasoningMult != 80000 || params.ClientDelay != 43200 ||
		hex.EncodeToString(params.ProxyCode[:]) != hashOf(t, toyCode(1)) || hex.EncodeToString(params.ClientCode[:]) != hashOf(t, toyCode(3)) {
		t.Errorf("params %+v, %v", params, err)
	}
	proxy, err := DecodeProxyInfo(results(t, "slice:0:2222222222222222222222222222222222222222222222222222222222222222, 0x4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29, slice:0:a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753, 1, 3000000000, 10000000000, 1750086400, 20, 19, 10000000000, 2500000000, 5"))
	if err != nil || proxy.Owner != proxyOwner || proxy.Key != proxyKey || proxy.Root != mainnetRoot || proxy.State != Closing ||
		proxy.Earnings != 3*ton || proxy.Stake != 10*ton || proxy.UnlockAt != 1750086400 || proxy.Params.PricePerToken != 20 || proxy.Params.ParamsVersion != 5 {
		t.Errorf("proxy %+v, %v", proxy, err)
	}
	worker, err := DecodeWorkerInfo(results(t, "slice:0:3333333333333333333333333333333333333333333333333333333333333333, slice:0:01f03a9050f6137e9a69343d29c228483ca83aad6cdd4ded10d8a3429611ffeb, 0x4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29, 0, 100000000"))
	if err != nil || worker.Owner != workerOwner || worker.Proxy != toyProxy || worker.Tokens != 100000000 || worker.State != Open {
		t.Errorf("worker %+v, %v", worker, err)
	}
	client, err := DecodeClientInfo(results(t, "slice:0:4444444444444444444444444444444444444444444444444444444444444444, slice:0:01f03a9050f6137e9a69343d29c228483ca83aad6cdd4ded10d8a3429611ffeb, 0x4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29, 1, 2500000000, 2500000000, 100000000, 1750043200, 0x2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"))
	if err != nil || client.Owner != clientOwner || client.State != Closing || client.Tokens != 100000000 || client.UnlockAt != 1750043200 || client.SecretHash != secretHash {
		t.Errorf("client %+v, %v", client, err)
	}
	if n, err := DecodeInt(MethodWalletSeqno, results(t, "7")); err != nil || n.Int64() != 7 {
		t.Errorf("seqno %v, %v", n, err)
	}
	if yes, err := DecodeBool(MethodModelHashValid, results(t, "-1")); err != nil || !yes {
		t.Errorf("valid %v, %v", yes, err)
	}
	if no, err := DecodeBool(MethodModelHashValid, results(t, "0")); err != nil || no {
		t.Errorf("valid %v, %v", no, err)
	}
	if a, err := DecodeAddress(MethodWalletOwner, results(t, "slice:"+clientOwner.Raw())); err != nil || a != clientOwner {
		t.Errorf("owner %v, %v", a, err)
	}
}

func TestGetterRefuses(t *testing.T) {
	if _, err := DecodeRootInfo(results(t, "1, 2")); !errors.Is(err, ErrMalformed) {
		t.Errorf("too few: %v", err)
	}
	if _, err := DecodeInt(MethodWalletSeqno, results(t, "-1")); !errors.Is(err, ErrMalformed) {
		t.Errorf("negative: %v", err)
	}
	if _, err := DecodeInt(MethodWalletSeqno, []StackValue{{}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := DecodeBool(MethodModelHashValid, results(t, "1")); !errors.Is(err, ErrMalformed) {
		t.Errorf("1 as a flag: %v", err)
	}
	if _, err := DecodeAddress(MethodWalletOwner, results(t, "1")); !errors.Is(err, ErrMalformed) {
		t.Errorf("a number as an address: %v", err)
	}
	if _, err := DecodeWorkerInfo(results(t, "slice:0:3333333333333333333333333333333333333333333333333333333333333333, slice:0:3333333333333333333333333333333333333333333333333333333333333333, 1, 256, 1")); !errors.Is(err, ErrMalformed) {
		t.Errorf("state 256: %v", err)
	}
}

func TestExitText(t *testing.T) {
	if ExitText(1007) != "the signature is wrong" || ExitText(4242) != "exit code 4242" {
		t.Error("wrong texts")
	}
}

// TestNetworkID builds the preimage of the level 1 protocol by hand.
func TestNetworkID(t *testing.T) {
	preimage := "636f636f6f6e2f6e6574776f726b2f763100" + strings.Repeat("01", 32) + strings.Repeat("02", 32) + "ffffff11" + "ffffffff" + strings.Repeat("aa", 32)
	root := fill(0xaa)
	root.Workchain = -1
	if got := NetworkID(fill(1).Hash, fill(2).Hash, -239, root); got != sha256.Sum256(unhex(preimage)) {
		t.Errorf("got %x", got)
	}
	if NetworkID(fill(1).Hash, fill(2).Hash, -3, root) == NetworkID(fill(1).Hash, fill(2).Hash, -239, root) {
		t.Error("the global id is not part of it")
	}
}
