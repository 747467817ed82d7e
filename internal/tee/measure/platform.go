package measure

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// ACPI is what QEMU hands to the firmware to make ACPI tables of: the fw_cfg
// files etc/table-loader, etc/acpi/rsdp and etc/acpi/tables. They depend on
// QEMU's version, the number of processors and every device, so they must be
// dumped from a machine of the very same configuration.
type ACPI struct{ Loader, RSDP, Tables []byte }

// MaxACPI bounds each of the three files.
const MaxACPI = 4 << 20

// RTMR0 is what OVMF up to 2025.02 measures of its configuration: the memory
// layout, the variable store, Secure Boot's variables (all empty), the ACPI
// files and the one boot option. Newer firmware measures more; use its event
// log.
func (f *Firmware) RTMR0(acpi ACPI, memory uint64) (Register, error) {
	for _, b := range [][]byte{acpi.Loader, acpi.RSDP, acpi.Tables} {
		if len(b) == 0 || len(b) > MaxACPI {
			return Register{}, inputError("an ACPI file of %d bytes", len(b))
		}
	}
	if memory == 0 {
		memory = defaultMemory
	}
	hob, err := f.hob(memory)
	if err != nil {
		return Register{}, err
	}
	config, err := f.configVolume()
	if err != nil {
		return Register{}, err
	}
	return Replay(
		Digest(hob),
		Digest(config),
		emptyVariable(guidGlobal, "SecureBoot"),
		emptyVariable(guidGlobal, "PK"),
		emptyVariable(guidGlobal, "KEK"),
		emptyVariable(guidSecurity, "db"),
		emptyVariable(guidSecurity, "dbx"),
		separator,
		Digest(acpi.Loader),
		Digest(acpi.RSDP),
		Digest(acpi.Tables),
		Digest([]byte{0, 0}), // BootOrder: option 0
		Digest(bootMenu()),
	), nil
}

// GUIDs of variables' owners and of OVMF's own files.
var (
	guidGlobal   = guid(0x8be4df61, 0x93ca, 0x11d2, "aa0d00e098032b8c")
	guidSecurity = guid(0xd719b2cb, 0x3d3a, 0x4596, "a3bcdad00e67656f")
	guidVolume   = guid(0x7cb8bdc9, 0xf8eb, 0x4f34, "aaea3ee4af6516a1")
	guidUiApp    = guid(0x462caa21, 0x7614, 0x4503, "836e8ab6f4662331")
)

// emptyVariable is the digest of a variable that is not set
// (UEFI_VARIABLE_DATA).
func emptyVariable(owner []byte, name string) Register {
	text := utf16z(name)
	b := slices.Clone(owner)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(text)/2-1))
	b = binary.LittleEndian.AppendUint64(b, 0)
	return Digest(append(b, text[:len(text)-2]...)) // without its NUL
}

// bootMenu is the load option Boot0000 that OVMF makes for its own menu.
func bootMenu() []byte {
	node := func(kind, sub byte, data []byte) []byte {
		b := binary.LittleEndian.AppendUint16([]byte{kind, sub}, uint16(4+len(data)))
		return append(b, data...)
	}
	path := slices.Concat(node(4, 7, guidVolume), node(4, 6, guidUiApp), node(0x7f, 0xff, nil))
	const active, hidden, app = 1, 8, 0x100
	b := binary.LittleEndian.AppendUint32(nil, active|hidden|app)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, utf16z("UiApp")...)
	return append(b, path...)
}

// span is a range of memory, which the host has added to the guest or not.
type span struct {
	start, end uint64
	added      bool
}

// hob is the list of memory ranges that QEMU writes for the firmware (UEFI PI
// 3, hand-off blocks): ranges of TDVF sections are ordinary memory, the rest
// is there to be accepted by the guest.
func (f *Firmware) hob(memory uint64) ([]byte, error) {
	const maxMemory = 1 << 46
	var home uint64
	var spans []span
	for _, s := range f.sections {
		switch s.kind {
		case sectionHOB:
			home = s.addr
		case sectionTempMem:
		default:
			continue
		}
		spans = append(spans, span{s.addr, s.addr + s.length, true})
	}
	if home == 0 {
		return nil, inputError("the firmware has no place for a description of the memory")
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	low := lowMemory(memory)
	if memory > maxMemory || spans[len(spans)-1].end > low {
		return nil, inputError("a guest of %d bytes cannot hold the firmware's sections", memory)
	}
	// Fill the gaps, then what follows below 4 GiB and above.
	var all []span
	at := uint64(0)
	for _, s := range spans {
		switch {
		case s.start < at:
			return nil, inputError("the firmware's sections overlap")
		case s.start > at:
			all = append(all, span{start: at, end: s.start})
		}
		all = append(all, s)
		at = s.end
	}
	if at < low {
		all = append(all, span{start: at, end: low})
	}
	if memory > low {
		const high = 4 << 30
		all = append(all, span{start: high, end: high + memory - low})
	}

	const (
		handoff, resource   = 1, 3 // types of blocks
		listVersion         = 9
		systemRAM, unTested = 0, 7 // "un-accepted" memory
		attributes          = 7    // present, initialised, tested
		headSize, blockSize = 56, 48
		endSize             = 8
	)
	le := binary.LittleEndian
	head := func(b []byte, kind, size uint16) []byte {
		b = le.AppendUint16(b, kind)
		b = le.AppendUint16(b, size)
		return append(b, 0, 0, 0, 0)
	}
	b := head(nil, handoff, headSize)
	b = le.AppendUint32(b, listVersion)
	b = append(b, make([]byte, 4+4*8)...) // boot mode, free memory
	b = le.AppendUint64(b, home+headSize+uint64(len(all))*blockSize+endSize)
	for _, s := range all {
		kind := uint32(unTested)
		if s.added {
			kind = systemRAM
		}
		b = head(b, resource, blockSize)
		b = append(b, make([]byte, 16)...) // owner
		b = le.AppendUint32(b, kind)
		b = le.AppendUint32(b, attributes)
		b = le.AppendUint64(b, s.start)
		b = le.AppendUint64(b, s.end-s.start)
	}
	return b, nil
}
