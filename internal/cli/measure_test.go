package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/tee/measure"
)

const (
	realLog   = "../tee/measure/testdata/cos-113-ccel.bin"
	realQuote = "../tee/measure/testdata/cos-113-quote.bin"
)

// specFolder writes the folder of the spec's vector.
func specFolder(s *shell) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "spec")
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.file("spec/init", "#!/bin/sh\nexit 0\n", 0o755)
	s.file("spec/a/b.txt", "hello\n", 0o644)
	s.file("spec/a.json", "{}\n", 0o644)
	s.file("spec/.gitignore", "runtime\n", 0o644)
	return dir
}

func TestMeasure(t *testing.T) {
	s := newShell(t)
	spec := specFolder(s)
	got := s.run("measure", "--spec", spec)
	const tree, rtmr3 = "b5f29b757f5a9791eecfe650b41382a5b81329069a26ca2bc7315f269aef78f1", "d4d9608163ed38c833525549dec3df79b891b73862883e59f322384e0b385fc21fd5355ff5c9d09b7a8233ef3e8de6b5"
	if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, tree) || !strings.Contains(got.stdout, rtmr3) || !strings.Contains(got.stdout, "needs MRTD, RTMR0") {
		t.Errorf("%+v", got)
	}
	decode := func(got said) (m measured) {
		t.Helper()
		if err := json.Unmarshal([]byte(got.stdout), &m); err != nil {
			t.Fatalf("%v in %+v", err, got)
		}
		return m
	}
	// Registers of a trusted start, against the quote of the same machine.
	got = s.run("measure", "--event-log", realLog, "--verify", realQuote, "--json")
	m := decode(got)
	if got.code != exitOK || m.Result != measure.Match || len(m.Compared) != 5 || m.Compared[1].Result != measure.Match || m.ImageHash != nil {
		t.Errorf("%+v", got)
	}
	// That guest has no spec folder: RTMR3 does not match, and says so.
	got = s.run("measure", "--event-log", realLog, "--verify", realQuote, "--spec", spec, "--generation", "april", "--debug-guest")
	if got.code != exitFailed || !strings.Contains(got.stdout, "RTMR3      mismatch\n  expected 4a848eb9913bc5ac") || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	// Nothing in common is no match either.
	if got := s.run("measure", "--spec", spec, "--verify", realLog, "--json"); got.code != exitFailed || decode(got).Result != measure.Unknown {
		t.Errorf("%+v", got)
	}
	initrd := s.file("initrd", "initrd", 0o600)
	line := s.file("cmdline", "quiet\n", 0o600)
	a, b := s.run("measure", "--initrd", initrd, "--cmdline-file", line), s.run("measure", "--initrd", initrd, "--cmdline", "quiet")
	if a.code != exitOK || a != b || !strings.Contains(a.stdout, "RTMR2") || strings.Contains(a.stdout, "\nRTMR1") {
		t.Errorf("%+v, %+v", a, b)
	}

	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{nil, exitUsage, "--spec"},
		{[]string{"--kernel", initrd}, exitUsage, "--initrd"},
		{[]string{"--acpi", s.dir, "--spec", spec}, exitUsage, "--firmware"},
		{[]string{"--spec", spec, "--generation", "may"}, exitUsage, "april"},
		{[]string{"--spec", spec, "--loader", "x"}, exitUsage, "plain"},
		{[]string{"--spec", spec, "--pages", "x"}, exitUsage, "single"},
		{[]string{"--spec", spec, "--memory", "lots"}, exitUsage, "100G"},
		{[]string{"--spec", spec, "--memory", "4503599627370495G"}, exitUsage, "100G"},
		{[]string{"--initrd", initrd, "--cmdline", "a", "--cmdline-file", line}, exitUsage, "only one"},
		{[]string{"--spec", filepath.Join(s.dir, "absent")}, exitFailed, "absent"},
		{[]string{"--firmware", initrd}, exitFailed, "firmware image"},
		{[]string{"--initrd", initrd, "--cmdline", "quiet", "--kernel", initrd}, exitFailed, "bzImage"},
		{[]string{"--event-log", initrd}, exitFailed, "event log"},
		{[]string{"--spec", spec, "--verify", initrd}, exitFailed, "neither a TDX quote nor an event log"},
		{[]string{"--initrd", initrd, "--cmdline", "quiet", "--event-log", realLog}, exitFailed, "RTMR2"},
	} {
		s.fails(s.run(append([]string{"measure"}, c.args...)...), c.code, c.say)
	}
}
