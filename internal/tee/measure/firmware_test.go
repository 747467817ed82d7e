package measure

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
)

// testFirmware is a small image in the form of OVMF: a variable store, two
// pages of code, a HOB page and a stack.
func testFirmware() []byte {
	le := binary.LittleEndian
	const config, code = 4096, 2 * 4096
	image := make([]byte, config+code)
	for i := range image {
		image[i] = byte(i>>8) ^ byte(i)
	}
	base := uint64(1<<32 - code)
	sections := []section{
		{config, code, base, code, 0, attrMeasured},
		{0, config, base - config, config, sectionConfig, 0},
		{0, 0, 0x810000, 0x2000, sectionTempMem, 0},
		{0, 0, 0x809000, 0x1000, sectionHOB, 0},
	}
	meta := append([]byte("TDVF"), make([]byte, 12)...)
	le.PutUint32(meta[4:], uint32(16+32*len(sections)))
	le.PutUint32(meta[8:], 1)
	le.PutUint32(meta[12:], uint32(len(sections)))
	for _, s := range sections {
		meta = le.AppendUint32(meta, s.offset)
		meta = le.AppendUint32(meta, s.size)
		meta = le.AppendUint64(meta, s.addr)
		meta = le.AppendUint64(meta, s.length)
		meta = le.AppendUint32(meta, s.kind)
		meta = le.AppendUint32(meta, s.attrs)
	}
	metaAt := len(image) - 1024
	copy(image[metaAt:], meta)
	other := append(le.AppendUint16([]byte{1, 2, 3, 4}, 22), bytes.Repeat([]byte{0xee}, 16)...)
	pointer := append(le.AppendUint16(le.AppendUint32(nil, 1024), 22), guidTDVF...)
	table := append(pointer, other...)
	table = append(le.AppendUint16(table, uint16(len(table)+18)), guidFooter...)
	copy(image[len(image)-32-len(table):], table)
	return image
}

func TestMRTD(t *testing.T) {
	image := testFirmware()
	f, err := ParseFirmware(image)
	if err != nil {
		t.Fatal(err)
	}
	// The same, written down as the TDX module sees it.
	h := sha512.New384()
	add := func(gpa uint64) {
		h.Write([]byte("MEM.PAGE.ADD\x00\x00\x00\x00"))
		h.Write(binary.LittleEndian.AppendUint64(nil, gpa))
		h.Write(make([]byte, 104))
	}
	extend := func(gpa uint64, content []byte) {
		for i := 0; i < len(content); i += 256 {
			h.Write([]byte("MR.EXTEND\x00\x00\x00\x00\x00\x00\x00"))
			h.Write(binary.LittleEndian.AppendUint64(nil, gpa+uint64(i)))
			h.Write(make([]byte, 104))
			h.Write(content[i : i+256])
		}
	}
	rest := func() { add(0xffffd000); add(0x810000); add(0x811000); add(0x809000) }
	add(0xffffe000)
	extend(0xffffe000, image[4096:8192])
	add(0xfffff000)
	extend(0xfffff000, image[8192:])
	rest()
	if want := Register(h.Sum(nil)); f.MRTD(SinglePass) != want {
		t.Errorf("single pass: %s, want %s", f.MRTD(SinglePass), want)
	}
	h.Reset()
	add(0xffffe000)
	add(0xfffff000)
	extend(0xffffe000, image[4096:])
	rest()
	if want := Register(h.Sum(nil)); f.MRTD(TwoPass) != want {
		t.Errorf("two passes: %s, want %s", f.MRTD(TwoPass), want)
	}
}

func TestFirmwareRefused(t *testing.T) {
	le := binary.LittleEndian
	metaAt := len(testFirmware()) - 1024
	for name, edit := range map[string]func(b []byte) []byte{
		"empty":           func(b []byte) []byte { return nil },
		"short":           func(b []byte) []byte { return b[:40] },
		"no footer":       func(b []byte) []byte { b[len(b)-33] ^= 1; return b },
		"table too long":  func(b []byte) []byte { le.PutUint16(b[len(b)-50:], 0xffff); return b },
		"entry too short": func(b []byte) []byte { le.PutUint16(b[len(b)-68:], 3); return b },
		"no TDVF":         func(b []byte) []byte { b[len(b)-74] ^= 1; return b },
		"far metadata":    func(b []byte) []byte { le.PutUint32(b[len(b)-94:], 1<<30); return b },
		"magic":           func(b []byte) []byte { b[metaAt] = 'X'; return b },
		"version":         func(b []byte) []byte { b[metaAt+8] = 2; return b },
		"many sections":   func(b []byte) []byte { le.PutUint32(b[metaAt+12:], 1<<20); return b },
		"data outside":    func(b []byte) []byte { le.PutUint32(b[metaAt+16:], 1<<31); return b },
		"more than fits":  func(b []byte) []byte { le.PutUint32(b[metaAt+20:], 1<<20); return b },
		"odd address":     func(b []byte) []byte { b[metaAt+24] = 1; return b },
		"huge":            func(b []byte) []byte { le.PutUint64(b[metaAt+32:], 1<<40); return b },
	} {
		if _, err := ParseFirmware(edit(testFirmware())); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRTMR0 checks the parts: the boot option against its published digest,
// the memory's description byte by byte.
func TestRTMR0(t *testing.T) {
	if got := Digest(bootMenu()).String(); got != "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298" {
		t.Errorf("boot option: %s", got)
	}
	f, err := ParseFirmware(testFirmware())
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for memory, want := range map[uint64][][3]uint64{
		100 << 30: {{7, 0, 0x809000}, {0, 0x809000, 0x1000}, {7, 0x80a000, 0x6000}, {0, 0x810000, 0x2000}, {7, 0x812000, 0x80000000 - 0x812000}, {7, 1 << 32, 100<<30 - 0x80000000}},
		1 << 30:   {{7, 0, 0x809000}, {0, 0x809000, 0x1000}, {7, 0x80a000, 0x6000}, {0, 0x810000, 0x2000}, {7, 0x812000, 1<<30 - 0x812000}},
	} {
		b, err := f.hob(memory)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != 56+48*len(want) || le.Uint64(b[48:]) != 0x809000+uint64(len(b))+8 || le.Uint32(b) != 56<<16|1 || le.Uint32(b[8:]) != 9 {
			t.Fatalf("%d bytes, % x", len(b), b[:56])
		}
		for i, w := range want {
			x := b[56+48*i:]
			if got := [3]uint64{uint64(le.Uint32(x[24:])), le.Uint64(x[32:]), le.Uint64(x[40:])}; got != w || le.Uint32(x) != 48<<16|3 || le.Uint32(x[28:]) != 7 {
				t.Errorf("memory %#x, block %d: %#x, want %#x", memory, i, got, w)
			}
		}
	}
	acpi := ACPI{[]byte("loader"), []byte("rsdp"), []byte("tables")}
	base, err := f.RTMR0(acpi, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() (Register, error){
		"memory": func() (Register, error) { return f.RTMR0(acpi, 64<<30) },
		"tables": func() (Register, error) { a := acpi; a.Tables = []byte("x"); return f.RTMR0(a, 0) },
		"rsdp":   func() (Register, error) { a := acpi; a.RSDP = []byte("x"); return f.RTMR0(a, 0) },
		"loader": func() (Register, error) { a := acpi; a.Loader = []byte("x"); return f.RTMR0(a, 0) },
		"config": func() (Register, error) {
			image := testFirmware()
			image[0] ^= 1
			g, err := ParseFirmware(image)
			if err != nil {
				return Register{}, err
			}
			return g.RTMR0(acpi, 0)
		},
	} {
		if got, err := change(); err != nil || got == base {
			t.Errorf("%s does not matter: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		acpi   ACPI
		memory uint64
	}{"no tables": {ACPI{[]byte("x"), []byte("x"), nil}, 0}, "no memory": {acpi, 4096}, "too much memory": {acpi, 1 << 60}} {
		if _, err := f.RTMR0(c.acpi, c.memory); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestImageHash reproduces the hash of the spec's sample quote (attestation
// 2.4) from its registers.
func TestImageHash(t *testing.T) {
	reg := func(s string) *Register {
		var r Register
		if err := r.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return &r
	}
	r := Registers{
		MRTD: reg("7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114"),
		RTMR: [4]*Register{
			reg("251a7f3cfc68006349444307c686485986beea461740437dae618e22a7aaac4ec0233ae0190eb1ce92ab8e9966563acc"),
			reg("7a6eb32a914226f429922564bb0ae0a7c7c413ba5a8ef055b481f6328108da335013b79c391dcc237f7e563674ce7787"),
			reg("aaccda38cf2bdee9965664d6793c9eaa93349564a052f36db45da5db656abe7b909d92cad5a29287f2bb78761771fec4"),
			{},
		},
	}
	got, err := r.ImageHash()
	if err != nil || got.String() != "04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436" {
		t.Errorf("%s, %v", got, err)
	}
	partial := r
	partial.RTMR[0], partial.MRTD = nil, nil
	if got, err := partial.ImageHash(); err == nil || got != (attest.ImageHash{}) {
		t.Errorf("%s, %v", got, err)
	}
	other := r
	other.RTMR[2] = &Register{1}
	var results []Outcome
	for _, c := range Compare(partial, other) {
		results = append(results, c.Result)
	}
	if want := [5]Outcome{Unknown, Unknown, Match, Mismatch, Match}; [5]Outcome(results) != want {
		t.Errorf("%v", results)
	}
	if err := new(Register).UnmarshalText([]byte("00")); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
}

func FuzzFirmware(f *testing.F) {
	f.Add(testFirmware())
	f.Fuzz(func(t *testing.T, b []byte) {
		fw, err := ParseFirmware(b)
		if err != nil {
			return
		}
		size := uint64(0)
		for _, s := range fw.sections {
			size += s.length
		}
		if size < 1<<22 {
			fw.MRTD(TwoPass)
		}
		fw.RTMR0(ACPI{[]byte("x"), []byte("x"), []byte("x")}, 0)
	})
}
