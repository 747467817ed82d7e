package measure

import (
	"cmp"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
	"unicode/utf16"
)

// Boot describes a direct boot of a Linux kernel by QEMU.
type Boot struct {
	// Kernel is a bzImage with an EFI stub, Initrd its initial RAM disk.
	Kernel, Initrd []byte
	// Cmdline is the kernel's command line as given to QEMU.
	Cmdline string
	// Memory is the guest's memory in bytes. Zero: 100 GiB, as the network's
	// guests have.
	Memory uint64
	// Loader says which kernel image the firmware sees.
	Loader Loader
}

// Loader is a way in which QEMU hands the kernel to the firmware.
type Loader int

const (
	// Patched: with the boot parameters QEMU fills in. OVMF up to 2025.02.
	Patched Loader = iota
	// Plain: the file as it is. OVMF from 2025.05 with QEMU from 10.0.
	Plain
)

// Bounds of a boot's parts.
const (
	MaxKernel  = 256 << 20
	MaxInitrd  = 2 << 30
	maxCmdline = 1 << 20

	defaultMemory = 100 << 30
)

func (b *Boot) memory() uint64 {
	if b.Memory == 0 {
		return defaultMemory
	}
	return b.Memory
}

// RTMR1 is what OVMF measures of the kernel and of the end of its own work.
func (b *Boot) RTMR1() (Register, error) {
	kernel := b.Kernel
	if b.Loader == Patched {
		var err error
		if kernel, err = b.patch(); err != nil {
			return Register{}, err
		}
	}
	image, err := Authenticode(kernel)
	if err != nil {
		return Register{}, err
	}
	return Replay(image,
		Digest("Calling EFI Application from Boot Option"),
		separator,
		Digest("Exit Boot Services Invocation"),
		Digest("Exit Boot Services Returned with Success"),
	), nil
}

// separator is the digest of a separator event.
var separator = Digest(make([]byte, 4))

// RTMR2 is what the kernel's EFI stub measures: the command line, to which
// OVMF appends the name of the initrd, and the initrd.
func (b *Boot) RTMR2() (Register, error) {
	switch {
	case len(b.Cmdline) > maxCmdline || strings.ContainsRune(b.Cmdline, 0):
		return Register{}, inputError("a command line of %d bytes, or with a NUL", len(b.Cmdline))
	case strings.HasSuffix(b.Cmdline, "\n"):
		return Register{}, inputError("the command line ends in a newline, which the guest would not see")
	case len(b.Initrd) == 0:
		return Register{}, inputError("no initrd: without one the firmware measures otherwise")
	}
	return Replay(Digest(utf16z(b.Cmdline+" initrd=initrd")), Digest(b.Initrd)), nil
}

// patch fills in the setup header as QEMU does for a kernel it loads itself
// (hw/i386, x86_load_linux). Only modern kernels are read: protocol 2.12 or
// newer, loaded high.
func (b *Boot) patch() ([]byte, error) {
	const (
		magic       = 0x202
		protocol    = 0x206
		loaderType  = 0x210
		loadFlags   = 0x211
		initrdAddr  = 0x218
		initrdSize  = 0x21c
		heapEnd     = 0x224
		cmdlineAddr = 0x228
		initrdMax   = 0x22c
		xloadFlags  = 0x236

		loadedHigh = 1
		useHeap    = 0x80
		above4G    = 2

		realMode, cmdline = 0x10000, 0x20000
		// acpiData is what QEMU keeps free for ACPI tables below the end of
		// low memory.
		acpiData = 0x28000
	)
	le := binary.LittleEndian
	switch k := b.Kernel; {
	case len(k) > MaxKernel || len(k) < 0x1000 || string(k[magic:][:4]) != "HdrS":
		return nil, inputError("this is no Linux kernel image (bzImage)")
	case le.Uint16(k[protocol:]) < 0x20c || k[loadFlags]&loadedHigh == 0:
		return nil, inputError("a kernel of boot protocol %#x, at least 0x20c is needed", le.Uint16(k[protocol:]))
	case uint64(len(b.Initrd)) > MaxInitrd:
		return nil, inputError("an initrd of %d bytes, at most %d", len(b.Initrd), MaxInitrd)
	case strings.Contains(b.Cmdline, "vga="):
		return nil, inputError("a command line with vga=, which QEMU would write into the kernel")
	}
	k := slices.Clone(b.Kernel)
	k[loaderType] = 0xb0 // QEMU, revision 0
	k[loadFlags] |= useHeap
	le.PutUint32(k[heapEnd:], cmdline-realMode-0x200)
	le.PutUint32(k[cmdlineAddr:], cmdline)
	if len(b.Initrd) == 0 {
		return k, nil
	}
	last := uint64(le.Uint32(k[initrdMax:]))
	if le.Uint16(k[xloadFlags:])&above4G != 0 {
		last = 0xffffffff
	}
	low := lowMemory(b.memory())
	last = min(last, max(low, acpiData+1)-acpiData-1)
	if uint64(len(b.Initrd)) >= last {
		return nil, inputError("an initrd of %d bytes does not fit into the guest's low memory", len(b.Initrd))
	}
	le.PutUint32(k[initrdAddr:], uint32(last-uint64(len(b.Initrd)))&^(pageSize-1))
	le.PutUint32(k[initrdSize:], uint32(len(b.Initrd)))
	return k, nil
}

// lowMemory is how much of the memory QEMU's q35 machine puts below 4 GiB.
func lowMemory(memory uint64) uint64 {
	const all, split = 0xb0000000, 0x80000000
	if memory >= all {
		return split
	}
	return memory
}

// Authenticode is the SHA-384 digest of a PE image by which firmware measures
// it: everything but the checksum and the signatures (Windows Authenticode PE
// format). The file is hashed as edk2 does it, without padding.
func Authenticode(image []byte) (Register, error) {
	h := sha512.New384()
	if err := authenticode(h, image); err != nil {
		return Register{}, err
	}
	return Register(h.Sum(nil)), nil
}

func authenticode(h hash.Hash, image []byte) error {
	const (
		peOffset     = 0x3c
		coffSize     = 24 // with the signature
		checksumAt   = 64 // in the optional header
		certificates = 4  // index of the directory entry
		sectionSize  = 40
		maxSections  = 96
	)
	bad := func(what string) error { return inputError("this is no PE image: %s", what) }
	le := binary.LittleEndian
	if len(image) > MaxKernel || len(image) < peOffset+4 || string(image[:2]) != "MZ" {
		return bad("no MZ")
	}
	pe := uint64(le.Uint32(image[peOffset:]))
	if pe+coffSize+2 > uint64(len(image)) || string(image[pe:][:4]) != "PE\x00\x00" {
		return bad("no PE header")
	}
	sections := int(le.Uint16(image[pe+6:]))
	optional := pe + coffSize
	optionalSize := uint64(le.Uint16(image[pe+20:]))
	// The directory's place depends on the width of addresses.
	var dirs uint64
	switch le.Uint16(image[optional:]) {
	case 0x10b:
		dirs = 96
	case 0x20b:
		dirs = 112
	default:
		return bad("an optional header of an unknown form")
	}
	headers := optional + optionalSize
	if optionalSize < dirs || headers+uint64(sections*sectionSize) > uint64(len(image)) || sections > maxSections {
		return bad("its headers are cut off")
	}
	sizeOfHeaders := uint64(le.Uint32(image[optional+60:]))
	if sizeOfHeaders < headers+uint64(sections*sectionSize) || sizeOfHeaders > uint64(len(image)) {
		return bad("its headers' size is wrong")
	}
	checksum := optional + checksumAt
	h.Write(image[:checksum])
	var signatures uint64
	if count := uint64(le.Uint32(image[optional+dirs-4:])); count > certificates {
		entry := optional + dirs + 8*certificates
		if entry+8 > headers {
			return bad("its directory is cut off")
		}
		signatures = uint64(le.Uint32(image[entry+4:]))
		h.Write(image[checksum+4 : entry])
		h.Write(image[entry+8 : sizeOfHeaders])
	} else {
		h.Write(image[checksum+4 : sizeOfHeaders])
	}

	type span struct{ at, size uint64 }
	var spans []span
	for i := range sections {
		s := image[headers+uint64(i*sectionSize):]
		if size := uint64(le.Uint32(s[16:])); size > 0 {
			spans = append(spans, span{uint64(le.Uint32(s[20:])), size})
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.at, b.at) })
	hashed := sizeOfHeaders
	for _, s := range spans {
		if s.at+s.size > uint64(len(image)) {
			return bad("a section lies outside")
		}
		if hashed += s.size; hashed > uint64(len(image)) {
			return bad("its sections overlap")
		}
		h.Write(image[s.at:][:s.size])
	}
	if uint64(len(image)) > hashed {
		rest := uint64(len(image)) - hashed
		if signatures > rest {
			return bad("its signatures lie outside")
		}
		h.Write(image[hashed:][:rest-signatures])
	}
	return nil
}

// utf16z is s in UTF-16 with a final NUL.
func utf16z(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// unhex reads a constant.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("measure: " + err.Error()) // only constants come here
	}
	return b
}
