package measure

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"testing"
)

// testKernel is a bzImage with a PE header, as Linux has them.
func testKernel() []byte {
	le := binary.LittleEndian
	k := make([]byte, 0x3000)
	for i := range k {
		k[i] = byte(i * 7)
	}
	copy(k, "MZ")
	const pe = 0x40
	le.PutUint32(k[0x3c:], pe)
	copy(k[pe:], "PE\x00\x00")
	le.PutUint16(k[pe+6:], 2)     // sections
	le.PutUint16(k[pe+20:], 0xa0) // optional header
	const opt = pe + 24
	le.PutUint16(k[opt:], 0x20b)
	le.PutUint32(k[opt+60:], 0x1000) // headers
	le.PutUint32(k[opt+108:], 6)     // directories
	le.PutUint64(k[opt+112+8*4:], 0)
	for i, s := range [][2]uint32{{0x2000, 0x800}, {0x1000, 0x1000}} { // not in the file's order
		h := k[opt+0xa0+40*i:]
		le.PutUint32(h[16:], s[1])
		le.PutUint32(h[20:], s[0])
	}
	copy(k[0x202:], "HdrS")
	le.PutUint16(k[0x206:], 0x20f)
	k[0x210], k[0x211] = 0, 1
	le.PutUint32(k[0x22c:], 0x7fffffff)
	le.PutUint16(k[0x236:], 0x7f)
	return k
}

func TestAuthenticode(t *testing.T) {
	k := testKernel()
	const checksum, entry = 0x40 + 24 + 64, 0x40 + 24 + 112 + 32
	want := func(k []byte) Register {
		var b []byte
		b = append(b, k[:checksum]...)
		b = append(b, k[checksum+4:entry]...)
		b = append(b, k[entry+8:]...) // sections touch each other, then the rest
		return sha512.Sum384(b)
	}
	if got, err := Authenticode(k); err != nil || got != want(k) {
		t.Errorf("%s, %v", got, err)
	}
	// Checksum and signatures do not count.
	signed := bytes.Clone(k)
	binary.LittleEndian.PutUint32(signed[checksum:], 12345)
	binary.LittleEndian.PutUint32(signed[entry:], uint32(len(k)))
	binary.LittleEndian.PutUint32(signed[entry+4:], 64)
	signed = append(signed, make([]byte, 64)...)
	if got, err := Authenticode(signed); err != nil || got != want(k) {
		t.Errorf("signed: %s, %v", got, err)
	}
	le := binary.LittleEndian
	for name, edit := range map[string]func(b []byte) []byte{
		"empty":           func(b []byte) []byte { return nil },
		"no MZ":           func(b []byte) []byte { b[0] = 0; return b },
		"no PE":           func(b []byte) []byte { b[0x40] = 0; return b },
		"far PE":          func(b []byte) []byte { le.PutUint32(b[0x3c:], 0xfffffff0); return b },
		"form":            func(b []byte) []byte { b[0x58] = 0; return b },
		"short optional":  func(b []byte) []byte { le.PutUint16(b[0x54:], 100); return b },
		"many sections":   func(b []byte) []byte { le.PutUint16(b[0x46:], 97); return b },
		"headers' size":   func(b []byte) []byte { le.PutUint32(b[0x58+60:], 1<<20); return b },
		"small headers":   func(b []byte) []byte { le.PutUint32(b[0x58+60:], 64); return b },
		"section outside": func(b []byte) []byte { le.PutUint32(b[0x58+0xa0+20:], 0xffffff00); return b },
		"overlap": func(b []byte) []byte {
			le.PutUint32(b[0x58+0xa0+20:], 0)
			le.PutUint32(b[0x58+0xa0+16:], 0x3000)
			return b
		},
		"signatures": func(b []byte) []byte { le.PutUint32(b[entry+4:], 1<<20); return b },
	} {
		if _, err := Authenticode(edit(bytes.Clone(k))); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPatch(t *testing.T) {
	le := binary.LittleEndian
	initrd := make([]byte, 5000)
	k, err := (&Boot{Kernel: testKernel(), Initrd: initrd}).patch()
	if err != nil {
		t.Fatal(err)
	}
	want := testKernel()
	want[0x210], want[0x211] = 0xb0, 0x81
	le.PutUint32(want[0x224:], 0xfe00)
	le.PutUint32(want[0x228:], 0x20000)
	le.PutUint32(want[0x218:], (0x80000000-0x28000-1-5000)&^0xfff)
	le.PutUint32(want[0x21c:], 5000)
	if !bytes.Equal(k, want) {
		t.Error("the kernel is patched otherwise")
	}
	for name, c := range map[string]struct {
		memory uint64
		above  bool
		addr   uint32
	}{
		"all below 4 GiB": {1 << 30, true, (1<<30 - 0x28000 - 1 - 5000) &^ 0xfff},
		"just split":      {0xb0000000, true, (0x80000000 - 0x28000 - 1 - 5000) &^ 0xfff},
		"just not split":  {0xb0000000 - 4096, true, (0xb0000000 - 4096 - 0x28000 - 1 - 5000) &^ 0xfff},
		"kernel's limit":  {0xb0000000 - 4096, false, (0x7fffffff - 5000) &^ 0xfff},
	} {
		kernel := testKernel()
		if !c.above {
			kernel[0x236] = 0
		}
		k, err := (&Boot{Kernel: kernel, Initrd: initrd, Memory: c.memory}).patch()
		if err != nil || le.Uint32(k[0x218:]) != c.addr {
			t.Errorf("%s: %#x, %v, want %#x", name, le.Uint32(k[0x218:]), err, c.addr)
		}
	}
	if k, err := (&Boot{Kernel: testKernel()}).patch(); err != nil || !bytes.Equal(k[0x218:0x220], testKernel()[0x218:0x220]) {
		t.Errorf("without initrd: %v", err)
	}
	for name, b := range map[string]Boot{
		"no kernel":     {Kernel: make([]byte, 0x2000), Initrd: initrd},
		"short":         {Kernel: testKernel()[:0x400], Initrd: initrd},
		"old kernel":    {Kernel: func() []byte { k := testKernel(); k[0x206] = 3; return k }(), Initrd: initrd},
		"loaded low":    {Kernel: func() []byte { k := testKernel(); k[0x211] = 0; return k }(), Initrd: initrd},
		"vga":           {Kernel: testKernel(), Initrd: initrd, Cmdline: "vga=ask"},
		"no memory":     {Kernel: testKernel(), Initrd: initrd, Memory: 4096},
		"little memory": {Kernel: testKernel(), Initrd: make([]byte, 1<<20), Memory: 1 << 20},
	} {
		if _, err := b.RTMR1(); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBoot(t *testing.T) {
	b := Boot{Kernel: testKernel(), Initrd: []byte("initrd"), Cmdline: "quiet"}
	rtmr2, err := b.RTMR2()
	line := Digest([]byte("q\x00u\x00i\x00e\x00t\x00 \x00i\x00n\x00i\x00t\x00r\x00d\x00=\x00i\x00n\x00i\x00t\x00r\x00d\x00\x00\x00"))
	if err != nil || rtmr2 != (Register{}).Extend(line).Extend(Digest("initrd")) {
		t.Errorf("RTMR2 %s, %v", rtmr2, err)
	}
	patched, err := b.RTMR1()
	if err != nil {
		t.Fatal(err)
	}
	b.Loader = Plain
	plain, err := b.RTMR1()
	if err != nil || plain == patched {
		t.Errorf("the loader does not matter: %v", err)
	}
	image, err := Authenticode(b.Kernel)
	if err != nil || plain != Replay(image, Digest("Calling EFI Application from Boot Option"), Digest("\x00\x00\x00\x00"), Digest("Exit Boot Services Invocation"), Digest("Exit Boot Services Returned with Success")) {
		t.Errorf("RTMR1 %s, %v", plain, err)
	}
	for name, b := range map[string]Boot{
		"newline":   {Initrd: []byte("x"), Cmdline: "quiet\n"},
		"NUL":       {Initrd: []byte("x"), Cmdline: "a\x00b"},
		"no initrd": {Cmdline: "quiet"},
	} {
		if _, err := b.RTMR2(); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzKernel(f *testing.F) {
	f.Add(testKernel(), []byte("initrd"), uint64(1<<30))
	f.Fuzz(func(t *testing.T, kernel, initrd []byte, memory uint64) {
		b := Boot{Kernel: kernel, Initrd: initrd, Memory: memory}
		patched, err := b.RTMR1()
		if err != nil {
			return
		}
		if again, err := b.RTMR1(); err != nil || again != patched {
			t.Error("patching changes its input")
		}
	})
}
