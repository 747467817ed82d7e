//go:build !tee

package sealedkeys

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func scalar(t testing.TB, b byte) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestVectors are those of spec attestation 5.5.
func TestVectors(t *testing.T) {
	client, enclave := scalar(t, 0x11), scalar(t, 0x22)
	clientKey, enclaveKey := pointBytes(client.PublicKey()), pointBytes(enclave.PublicKey())
	key := persistentKey([16]byte(bytes.Repeat([]byte{1}, 16)), [48]byte(bytes.Repeat([]byte{2}, 48)), [48]byte(bytes.Repeat([]byte{3}, 48)), DiskKey)
	sealed, err := crypt(enclave, client.PublicKey(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret := [secretSize]byte(append(enclaveKey[:], sealed[:]...))
	asked, answered := requestData(clientKey), responseData(clientKey, secret)
	request := (&Request{PublicKey: clientKey, Name: DiskKey}).Append(nil)
	var frame bytes.Buffer
	if err := writeFrame(&frame, request); err != nil {
		t.Fatal(err)
	}
	frameHash := sha256.Sum256(frame.Bytes())
	const keyHash = "9b46700724521ac6f67e2dfd959ee4db94464ea93e4d0926992173efd984ffb1"
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"client key", clientKey[:], "edd48202b8e566df6c6ddf2b152c4f3aa2699e99968f27283944b6f017e6170294576e30657c89f252965958c75ff4565a76a85aa83cda2d2d7197cbeb7d4a19"},
		{"enclave key", enclaveKey[:], "f39c58483add05d5eaba04735760165f469ea757ff5218081b3daa7c97935ad68512c9e9fc33c5c307d55bf05567dbfd73e45775133aea2162df7253895e1850"},
		{"persistent key", key[:], "71e6db71f82433598fc52a3bf73da04ea4518ec09802e42dbbd7efe0210240ec"},
		{"ciphertext", sealed[:], "850fad701ed80e9e2244f301ec86615c13ae73e8d8b24a9591b31552be913ca2"},
		{"TD report data", asked[:], keyHash + hex.EncodeToString(make([]byte, 32))},
		{"SGX report data", answered[:], keyHash + "605cc1bf905bba9c342394e0acea4260a0eca3cc3a9d0ecac8c232dcc7a108f3"},
		{"frame's start", frame.Bytes()[:12], "5c0400001c827a31fe000400"},
		{"frame", frameHash[:], "c177afa991a02d3a0516856e2dff84d3eaeae87d0c1c29d681bb2d88c3d891cd"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	if len(request) != 1116 {
		t.Errorf("a request of %d bytes", len(request))
	}
	back, err := crypt(client, enclave.PublicKey(), sealed)
	if err != nil || back != key {
		t.Errorf("decrypted: %v", err)
	}
}

// TestSEV has the vectors of spec changes-2026-04 15.5.
func TestSEV(t *testing.T) {
	answer := [DerivedKeySize]byte(append(make([]byte, 32), bytes.Repeat([]byte{0x11}, 32)...))
	for name, want := range map[string]string{
		DiskKey: "989894355d381c23cae9330127955adc0cd6a9e9cf20baf258a62c06bed9f8b4",
		AppKey:  "5dbdcf3fc166b53d8b8807d6449aa1f684000ee618da10b60a696e02fc72a462",
	} {
		k, err := SEVKey(answer, name)
		if err != nil || !k.Equal(newKey([32]byte(unhex(t, want)))) {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer[0] = 0x16
	if _, err := SEVKey(answer, AppKey); !errors.Is(err, ErrProcessor) {
		t.Errorf("a refusal: %v", err)
	}
	if _, err := SEVKey([64]byte{}, ""); !errors.Is(err, ErrProtocol) {
		t.Errorf("no name: %v", err)
	}
	request := derivedKeyRequest()
	if got := hex.EncodeToString(request[:]); got != "0000000000000000"+"2900000000000000"+"01000000"+"00000000"+"0000000000000000" {
		t.Errorf("request %s", got)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add((&Request{Name: DiskKey}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseRequest(b)
		if err != nil {
			return
		}
		again, err := ParseRequest(q.Append(nil))
		if err != nil || *again != *q {
			t.Errorf("decode, encode, decode: %v", err)
		}
		parsePoint(q.PublicKey)
	})
}

func FuzzResponse(f *testing.F) {
	f.Add((&Response{Quote: []byte("quote")}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseResponse(b)
		if err != nil {
			return
		}
		again, err := ParseResponse(r.Append(nil))
		if err != nil || again.Secret != r.Secret || !bytes.Equal(again.Quote, r.Quote) {
			t.Errorf("decode, encode, decode: %v", err)
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	k := newKey([32]byte{1})
	file, err := k.Seal("wallet", []byte("content"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		content, err := k.Open("wallet", b)
		if err != nil {
			return
		}
		again, err := k.seal("wallet", bytes.Clone(b[:len(fileMagic)+fileSalt]), content)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("another file opens to the same: %v", err)
		}
	})
}
