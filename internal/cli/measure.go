package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee/measure"
)

// measureFlags are the flags of `cocoon measure`.
type measureFlags struct {
	spec, firmware, kernel, initrd string
	cmdline, cmdlineFile           string
	acpi, memory                   string
	eventLog, verify               string
	generation, loader, pages      string
	debug                          bool
}

// measured is what `cocoon measure` prints.
type measured struct {
	SpecTree  *measure.Tree        `json:"spec_tree"`
	Log       []string             `json:"log"`
	Expected  measure.Registers    `json:"expected"`
	ImageHash *attest.ImageHash    `json:"image_hash"`
	Missing   string               `json:"missing,omitempty"`
	Compared  []measure.Comparison `json:"compared,omitempty"`
	Result    measure.Outcome      `json:"result,omitempty"`
}

func (a *app) measureCommand() *cobra.Command {
	var f measureFlags
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "measure",
		Short: "What a genuine TDX guest must measure, and whether one does",
		Long: `Compute the measurements of a TDX guest from the files it is made of: MRTD from
the firmware, RTMR1 from the kernel, RTMR2 from command line and initrd, RTMR3
from the spec folder. RTMR0 depends on the host's version of QEMU and the list of
devices: it comes from ACPI files dumped there, or from the event log of a start
that is trusted. With all of them the image hash is known, which a root contract
lists.

--verify holds the result against a quote or another event log. The quote's
signatures are not looked at (cocoon verify does that).`,
		Example: `  cocoon measure --spec ./spec/worker
  cocoon measure --spec ./spec/worker --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img \
    --cmdline-file cmdline.txt --event-log ccel.bin --verify quote.bin --json`,
		RunE: func(*cobra.Command, []string) error {
			m, err := f.measure()
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(m)
			} else {
				err = m.print(a.env.Stdout)
			}
			if err == nil && f.verify != "" && m.Result != measure.Match {
				err = quietError{errors.New("the measurements do not match")}
			}
			return err
		},
	})
	fl := cmd.Flags()
	fl.StringVar(&f.spec, "spec", "", "spec folder, for RTMR3")
	fl.StringVar(&f.firmware, "firmware", "", "OVMF image, for MRTD and RTMR0")
	fl.StringVar(&f.kernel, "kernel", "", "Linux kernel (bzImage), for RTMR1")
	fl.StringVar(&f.initrd, "initrd", "", "initial RAM disk, for RTMR1 and RTMR2")
	fl.StringVar(&f.cmdline, "cmdline", "", "kernel command line as given to QEMU, for RTMR2")
	fl.StringVar(&f.cmdlineFile, "cmdline-file", "", "file with the kernel command line; one newline at its end is dropped")
	fl.StringVar(&f.acpi, "acpi", "", "folder with QEMU's files table-loader, rsdp and tables, for RTMR0")
	fl.StringVar(&f.memory, "memory", "100G", "the guest's memory, in bytes or with M or G")
	fl.StringVar(&f.eventLog, "event-log", "", "event log (CCEL data) of a trusted start, for RTMR0")
	fl.StringVar(&f.verify, "verify", "", "quote or event log to hold against the result; exit 1 unless all that can be compared matches")
	fl.StringVar(&f.generation, "generation", "december", "order of the log in RTMR3: december or april; they differ in debug mode only")
	fl.BoolVar(&f.debug, "debug-guest", false, "the guest is started in debug mode")
	fl.StringVar(&f.loader, "loader", "patched", "how QEMU hands over the kernel: patched (OVMF up to 2025.02) or plain (from 2025.05)")
	fl.StringVar(&f.pages, "pages", "single", "how the host measures pages: single pass (QEMU from 9), or two passes")
	return cmd
}

// choice finds the value of a flag among the known ones.
func choice[T any](flag, value string, known map[string]T) (T, error) {
	v, ok := known[value]
	if !ok {
		names := slices.Sorted(maps.Keys(known))
		return v, usageError{fmt.Errorf("--%s %q is neither %s", flag, value, strings.Join(names, " nor "))}
	}
	return v, nil
}

func (f *measureFlags) measure() (*measured, error) {
	if f.spec == "" && f.firmware == "" && f.kernel == "" && f.initrd == "" && f.eventLog == "" {
		return nil, usageError{errors.New("nothing to measure: name --spec, --firmware, --kernel and --initrd, or --event-log")}
	}
	gen, err := choice("generation", f.generation, map[string]measure.Generation{"december": measure.December, "april": measure.April})
	if err != nil {
		return nil, err
	}
	memory, err := parseMemory(f.memory)
	if err != nil {
		return nil, err
	}
	m := &measured{}
	if err := f.platform(&m.Expected, memory); err != nil {
		return nil, err
	}
	if err := f.boot(&m.Expected, memory); err != nil {
		return nil, err
	}
	if f.eventLog != "" {
		if err := f.trust(&m.Expected); err != nil {
			return nil, err
		}
	}
	if f.spec != "" {
		root, err := os.OpenRoot(f.spec) // nothing outside is read
		if err != nil {
			return nil, err
		}
		defer root.Close()
		tree, err := measure.SpecTree(root.FS())
		if err != nil {
			return nil, err
		}
		m.SpecTree, m.Log = &tree, measure.Log(tree, f.debug, gen)
		rtmr3 := measure.RTMR3(m.Log)
		m.Expected.RTMR[3] = &rtmr3
	}
	if hash, err := m.Expected.ImageHash(); err == nil {
		m.ImageHash = &hash
	} else {
		m.Missing = strings.TrimPrefix(err.Error(), "measure: ")
	}
	if f.verify != "" {
		reported, err := readReported(f.verify)
		if err != nil {
			return nil, err
		}
		m.compare(reported)
	}
	return m, nil
}

// platform computes MRTD and RTMR0.
func (f *measureFlags) platform(r *measure.Registers, memory uint64) error {
	order, err := choice("pages", f.pages, map[string]measure.PageOrder{"single": measure.SinglePass, "two": measure.TwoPass})
	if err != nil {
		return err
	}
	if f.firmware == "" {
		if f.acpi != "" {
			return usageError{errors.New("--acpi: RTMR0 needs the --firmware too")}
		}
		return nil
	}
	image, err := readUpTo(f.firmware, measure.MaxFirmware)
	if err != nil {
		return err
	}
	fw, err := measure.ParseFirmware(image)
	if err != nil {
		return fmt.Errorf("%s: %w", f.firmware, err)
	}
	mrtd := fw.MRTD(order)
	r.MRTD = &mrtd
	if f.acpi == "" {
		return nil
	}
	var tables measure.ACPI
	for name, to := range map[string]*[]byte{"table-loader": &tables.Loader, "rsdp": &tables.RSDP, "tables": &tables.Tables} {
		if *to, err = readUpTo(filepath.Join(f.acpi, name), measure.MaxACPI); err != nil {
			return err
		}
	}
	rtmr0, err := fw.RTMR0(tables, memory)
	if err != nil {
		return err
	}
	r.RTMR[0] = &rtmr0
	return nil
}

// boot computes RTMR1 and RTMR2.
func (f *measureFlags) boot(r *measure.Registers, memory uint64) error {
	loader, err := choice("loader", f.loader, map[string]measure.Loader{"patched": measure.Patched, "plain": measure.Plain})
	if err != nil {
		return err
	}
	switch {
	case f.cmdline != "" && f.cmdlineFile != "":
		return usageError{errors.New("--cmdline and --cmdline-file: only one of them can be measured")}
	case f.kernel == "" && f.initrd == "":
		return nil
	case f.initrd == "":
		return usageError{errors.New("--kernel: RTMR1 and RTMR2 need the --initrd too")}
	}
	b := measure.Boot{Cmdline: f.cmdline, Memory: memory, Loader: loader}
	if f.cmdlineFile != "" {
		line, err := readUpTo(f.cmdlineFile, 1<<20)
		if err != nil {
			return err
		}
		b.Cmdline = strings.TrimSuffix(string(line), "\n")
	}
	if b.Initrd, err = readUpTo(f.initrd, measure.MaxInitrd); err != nil {
		return err
	}
	if b.Cmdline != "" {
		rtmr2, err := b.RTMR2()
		if err != nil {
			return err
		}
		r.RTMR[2] = &rtmr2
	}
	if f.kernel == "" {
		return nil
	}
	if b.Kernel, err = readUpTo(f.kernel, measure.MaxKernel); err != nil {
		return err
	}
	rtmr1, err := b.RTMR1()
	if err != nil {
		return fmt.Errorf("%s: %w", f.kernel, err)
	}
	r.RTMR[1] = &rtmr1
	return nil
}

// trust takes what no file gave from the event log of a trusted start, which
// must not contradict the files.
func (f *measureFlags) trust(r *measure.Registers) error {
	events, err := readEventLog(f.eventLog)
	if err != nil {
		return err
	}
	for i, v := range measure.ReplayEvents(events) {
		switch {
		case i == 3: // begins after the log's end
		case r.RTMR[i] == nil:
			r.RTMR[i] = &v
		case *r.RTMR[i] != v:
			return fmt.Errorf("%w: %s: its RTMR%d is %s, but the files give %s: this start was of something else (--verify compares)", measure.ErrInput, f.eventLog, i, v, r.RTMR[i])
		}
	}
	return nil
}

// compare holds what a guest says against what is expected. A register that
// either side does not know is no mismatch; nothing to compare is.
func (m *measured) compare(reported measure.Registers) {
	m.Compared = measure.Compare(m.Expected, reported)
	m.Result = measure.Unknown
	for _, c := range m.Compared {
		if c.Result == measure.Mismatch || c.Result == measure.Match && m.Result == measure.Unknown {
			m.Result = c.Result
		}
	}
}

// readReported reads a TDX quote or an event log.
func readReported(name string) (measure.Registers, error) {
	b, err := readUpTo(name, measure.MaxEventLog)
	if err != nil {
		return measure.Registers{}, err
	}
	r, err := measure.Reported(b)
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func readEventLog(name string) ([]measure.Event, error) {
	b, err := readUpTo(name, measure.MaxEventLog)
	if err != nil {
		return nil, err
	}
	events, err := measure.ParseEventLog(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return events, nil
}

// readUpTo reads a whole file of at most limit bytes.
func readUpTo(name string, limit int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%w: %s: more than %d bytes", measure.ErrInput, name, limit)
	}
	return b, nil
}

// parseMemory reads a size in bytes, M or G as QEMU has it (powers of 1024).
func parseMemory(s string) (uint64, error) {
	digits, unit := s, uint64(1)
	for suffix, n := range map[string]uint64{"M": 1 << 20, "G": 1 << 30} {
		if d, ok := strings.CutSuffix(s, suffix); ok {
			digits, unit = d, n
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32+20)
	if err != nil || n == 0 || n > (1<<52)/unit {
		return 0, usageError{fmt.Errorf("--memory %q is no size such as 100G", s)}
	}
	return n * unit, nil
}

// print writes the result for people.
func (m *measured) print(w io.Writer) error {
	var b strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&b, "%-10s %v\n", name, value) }
	if m.SpecTree != nil {
		line("spec", m.SpecTree)
	}
	if m.Expected.MRTD != nil {
		line("MRTD", m.Expected.MRTD)
	}
	for i, r := range m.Expected.RTMR {
		if r != nil {
			line(fmt.Sprintf("RTMR%d", i), r)
		}
	}
	if m.ImageHash != nil {
		line("image", m.ImageHash)
	} else {
		line("image", "unknown: "+m.Missing)
	}
	for _, c := range m.Compared {
		line(c.Name, c.Result)
		if c.Result == measure.Mismatch {
			fmt.Fprintf(&b, "  expected %v\n  reported %v\n", c.Expected, c.Reported)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
