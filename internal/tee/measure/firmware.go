package measure

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
)

// Firmware is an OVMF image that can start a TDX guest: one with TDVF metadata
// (edk2, OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm).
type Firmware struct {
	image    []byte
	sections []section
}

// section is a range of memory that the host prepares before the first
// instruction.
type section struct {
	offset, size uint32 // of the data in the image
	addr, length uint64 // in the guest's memory
	kind, attrs  uint32
}

// Kinds of sections and their attributes.
const (
	sectionConfig  = 1 // the variable store
	sectionHOB     = 2 // where the host describes the memory
	sectionTempMem = 3

	attrMeasured = 1 << 0 // the content is measured, not only the place
	attrAugment  = 1 << 1 // pages are added later, and not measured
)

// Bounds of a firmware image.
const (
	MaxFirmware = 64 << 20
	maxSections = 64
	pageSize    = 4096
	chunkSize   = 256 // measured at a time
)

// GUIDs at the end of the image, in their stored form.
var (
	guidFooter = guid(0x96b582de, 0x1fb2, 0x45f7, "baeaa366c55a082d")
	guidTDVF   = guid(0xe47a6535, 0x984a, 0x4798, "865e4685a7bf8ec2")
)

// ParseFirmware reads the TDVF metadata of an OVMF image.
func ParseFirmware(image []byte) (*Firmware, error) {
	// A table of (data, length, GUID) entries, read backwards, ends 32 bytes
	// before the end of the image.
	const after, entryTail = 32, 2 + 16
	if len(image) > MaxFirmware || len(image) < after+entryTail {
		return nil, inputError("a firmware image of %d bytes", len(image))
	}
	entry := func(b []byte) (id []byte, size int) {
		return b[len(b)-16:], int(binary.LittleEndian.Uint16(b[len(b)-entryTail:]))
	}
	rest := image[:len(image)-after]
	id, size := entry(rest)
	if !bytes.Equal(id, guidFooter) || size < entryTail || size > len(rest) {
		return nil, inputError("the firmware has no table of GUIDs at its end: it is not OVMF, or only its variables")
	}
	table := rest[len(rest)-size : len(rest)-entryTail]
	for len(table) >= entryTail {
		id, size := entry(table)
		if size < entryTail || size > len(table) {
			break
		}
		if bytes.Equal(id, guidTDVF) {
			data := table[len(table)-size : len(table)-entryTail]
			if len(data) < 4 {
				break
			}
			back := binary.LittleEndian.Uint32(data[len(data)-4:])
			if uint64(back) > uint64(len(image)) {
				break
			}
			return parseSections(image, image[len(image)-int(back):])
		}
		table = table[:len(table)-size]
	}
	return nil, inputError("the firmware has no TDVF metadata: it cannot start TDX guests")
}

func parseSections(image, meta []byte) (*Firmware, error) {
	r := &reader{b: meta}
	magic := string(r.take(4))
	r.u32() // length
	version, count := r.u32(), r.u32()
	if r.short || magic != "TDVF" || version != 1 || count == 0 || count > maxSections {
		return nil, inputError("the firmware's TDVF metadata is of an unknown form")
	}
	f := &Firmware{image: image}
	for i := range count {
		s := section{offset: r.u32(), size: r.u32(), addr: r.u64(), length: r.u64(), kind: r.u32(), attrs: r.u32()}
		switch {
		case r.short:
			return nil, inputError("the firmware's TDVF metadata is cut off")
		case s.addr%pageSize != 0 || s.length%pageSize != 0 || s.length > MaxFirmware || s.addr > 1<<52:
			return nil, inputError("TDVF section %d: %#x bytes at %#x", i, s.length, s.addr)
		case uint64(s.size) > s.length || uint64(s.offset)+uint64(s.size) > uint64(len(image)):
			return nil, inputError("TDVF section %d: its data is not in the image", i)
		}
		f.sections = append(f.sections, s)
	}
	return f, nil
}

// PageOrder is the order in which a host adds and measures the pages of a
// section. The same firmware has another MRTD in each.
type PageOrder int

// The orders: hosts before QEMU 9 and their kernels add all pages of a section
// first, newer ones measure each page as it is added. Zero is SinglePass.
const (
	SinglePass PageOrder = iota
	TwoPass
)

// MRTD is the measurement of the guest's initial memory: for each page a
// record of its address, and for each 256 bytes of measured content a record
// of their address and the bytes (Intel TDX module, TDH.MEM.PAGE.ADD and
// TDH.MR.EXTEND).
func (f *Firmware) MRTD(order PageOrder) Register {
	h := sha512.New384()
	record := func(name string, addr uint64) {
		var b [128]byte
		copy(b[:16], name)
		binary.LittleEndian.PutUint64(b[16:], addr)
		h.Write(b[:])
	}
	for _, s := range f.sections {
		content := make([]byte, s.length) // zeros after the data
		copy(content, f.image[s.offset:][:s.size])
		add := func(page uint64) {
			if s.attrs&attrAugment == 0 {
				record("MEM.PAGE.ADD", s.addr+page)
			}
		}
		measure := func(page uint64) {
			for at := page; s.attrs&attrMeasured != 0 && at < page+pageSize; at += chunkSize {
				record("MR.EXTEND", s.addr+at)
				h.Write(content[at:][:chunkSize])
			}
		}
		for page := uint64(0); page < s.length; page += pageSize {
			add(page)
			if order == SinglePass {
				measure(page)
			}
		}
		for page := uint64(0); order == TwoPass && page < s.length; page += pageSize {
			measure(page)
		}
	}
	return Register(h.Sum(nil))
}

// configVolume returns the variable store the image begins with.
func (f *Firmware) configVolume() ([]byte, error) {
	for _, s := range f.sections {
		if s.kind == sectionConfig {
			return f.image[s.offset:][:s.size], nil
		}
	}
	return nil, inputError("the firmware has no variable store")
}

// guid is the stored form of a GUID: three little-endian numbers and 8 bytes,
// given in hex.
func guid(a uint32, b, c uint16, rest string) []byte {
	g := binary.LittleEndian.AppendUint32(nil, a)
	g = binary.LittleEndian.AppendUint16(g, b)
	g = binary.LittleEndian.AppendUint16(g, c)
	return append(g, unhex(rest)...)
}
