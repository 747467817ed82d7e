package modelhash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
)

// Roots of n blocks of 'A' (spec attestation 7.2), equal to veritysetup.
var treeVectors = []struct {
	blocks int
	root   string
}{
	{1, "abf7a4e3b52957ca176742684e44b443c55e22c0bb3ae03d9add837f4252ed5c"},
	{2, "4030a9bde738b5e432c478bad36cf25303cef2b583a2f9ce1242756953381922"},
	{130, "4e6e47459cbe6e6515008243de55b74a19394e27799f797930c376ded14459b4"},
}

func TestTree(t *testing.T) {
	for _, v := range treeVectors {
		data := bytes.Repeat([]byte{'A'}, v.blocks*BlockSize)
		for _, step := range []int{1 << 20, BlockSize, 4097, 1000} {
			var tree Tree
			for p := data; len(p) > 0; p = p[min(step, len(p)):] {
				tree.Write(p[:min(step, len(p))])
			}
			if root, err := tree.Root(); err != nil || root.String() != v.root {
				t.Errorf("%d blocks in steps of %d: %s, %v", v.blocks, step, root, err)
			}
		}
	}
	var none, odd Tree
	if _, err := none.Root(); err == nil {
		t.Error("no data has a root")
	}
	odd.Write(make([]byte, BlockSize+1))
	if _, err := odd.Root(); err == nil {
		t.Error("half a block has a root")
	}
}

// plainRoot is the root as the specification words it: all digests at once.
func plainRoot(data []byte) (r Root) {
	sum := func(b []byte) []byte {
		d := sha256.Sum256(append(append([]byte(nil), salt[:]...), b...))
		return d[:]
	}
	for {
		var next []byte
		for p := data; len(p) > 0; p = p[BlockSize:] {
			next = append(next, sum(p[:BlockSize])...)
		}
		if len(next) == sha256.Size {
			return Root(next)
		}
		data = append(next, make([]byte, (BlockSize-len(next)%BlockSize)%BlockSize)...)
	}
}

// TestTreeLevels: the stream gives what the plain definition gives around the
// sizes where a level fills up.
func TestTreeLevels(t *testing.T) {
	for _, n := range []int{1, 2, 127, 128, 129, 255, 256, 257, 128*3 + 1} {
		data := make([]byte, n*BlockSize)
		for i := range data {
			data[i] = byte(i / BlockSize * 7)
		}
		var tree Tree
		tree.Write(data)
		if got, err := tree.Root(); err != nil || got != plainRoot(data) {
			t.Errorf("%d blocks: %s, %v, want %s", n, got, err, plainRoot(data))
		}
	}
	// Three levels of hash blocks, without holding the data.
	var a, b Tree
	block := bytes.Repeat([]byte{'B'}, BlockSize)
	for range 128*128 + 1 {
		a.Write(block)
	}
	b.Write(block)
	leaf := Root(b.digests[0].block[:sha256.Size])
	b = Tree{h: sha256.New(), blocks: 1}
	for range 128*128 + 1 {
		b.add(0, leaf)
	}
	x, err := a.Root()
	y, err2 := b.Root()
	if err != nil || err2 != nil || x != y || len(a.digests) != 4 {
		t.Errorf("%s %v, %s %v, %d levels", x, err, y, err2, len(a.digests))
	}
}

func put(t *testing.T, dir, name, text string, mode os.FileMode) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
}

// small is the folder of the specification's vector.
func small(t *testing.T) string {
	dir := t.TempDir()
	put(t, dir, "config.json", "{}\n", 0o644)
	put(t, dir, "sub/w.bin", "WWWWWWWWWW", 0o644)
	for _, d := range []string{dir, filepath.Join(dir, "sub")} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const smallRoot = "fc7b1943a518b911f479929d61f90264829699d163cda39443abb4912268eb83"

func write(t *testing.T, path string) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := WriteArchive(t.Context(), &b, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) || n%BlockSize != 0 {
		t.Errorf("%d bytes told, %d written", n, b.Len())
	}
	return b.Bytes()
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestArchive(t *testing.T) {
	dir := small(t)
	b := write(t, dir)
	if len(b) != 12288 || hexSum(b) != "7b500beb3adbe0c5c8e7f1345c12731f2738b87f070c0d4188844da630bea1ce" {
		t.Errorf("padded: %d bytes, %s", len(b), hexSum(b))
	}
	if hexSum(b[:10240]) != "471ee1c494d6875398819611e3e3959232569b76eddf2695ef8b441fb9e04de2" {
		t.Errorf("archive: %s", hexSum(b[:10240]))
	}
	var last, total int64
	root, err := Hash(t.Context(), dir, func(d, n int64) {
		if d < last || d > n {
			t.Errorf("progress went from %d to %d of %d", last, d, n)
		}
		last, total = d, n
	})
	if err != nil || root.String() != smallRoot || last != 12288 || total != 12288 {
		t.Errorf("%s %v, progress %d of %d", root, err, last, total)
	}
	// The archive itself hashes to the same, without its padding not at all.
	file := filepath.Join(t.TempDir(), "m.tar")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if root, err = Hash(t.Context(), file, nil); err != nil || root.String() != smallRoot {
		t.Errorf("%s %v", root, err)
	}
	if err := os.Truncate(file, 10240); err != nil {
		t.Fatal(err)
	}
	if _, err := Hash(t.Context(), file, nil); err == nil {
		t.Error("an archive without padding is taken")
	}
}

// TestPadding: an archive that fills its last block gets a whole one more.
func TestPadding(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", strings.Repeat("x", 2*20480-4*512-512), 0o644)
	if b := write(t, dir); len(b) != 2*20480+BlockSize {
		t.Errorf("%d bytes", len(b))
	}
}

// odd is a folder with everything that tar treats in a special way.
func odd(t *testing.T) string {
	dir := t.TempDir()
	long := strings.Repeat("a", 120)
	put(t, dir, "config.json", "{}\n", 0o640)
	put(t, dir, "sub/w.bin", "WWWWWWWWWW", 0o605)
	put(t, dir, "sub-y", "r\n", 0o755)
	put(t, dir, "sub.x", "q\n", 0o400)
	put(t, dir, "A", "z\n", 0o666)
	put(t, dir, "naïve.txt", "y\n", 0o644)
	put(t, dir, ".dot/empty", "", 0o644)
	put(t, dir, long+"/"+long, "x\n", 0o644)
	put(t, dir, strings.Repeat("b", 98), "exactly 100\n", 0o644)
	for name, target := range map[string]string{"link": "sub/w.bin", "ünlink": "naïve.txt", "longlink": long + "/" + long, long + "/" + strings.Repeat("c", 101): "../" + long + "/" + long} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, old := range map[string]string{"zhard": "config.json", "zhard2": "naïve.txt", "zhard3": long + "/" + long} {
		if err := os.Link(filepath.Join(dir, old), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, filepath.Join(dir, "sub"), filepath.Join(dir, ".dot"), filepath.Join(dir, long)} {
		if err := os.Chmod(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// oddSum is SHA-256 over what GNU tar 1.34 makes of that folder, unpadded.
const oddSum = "cd2ed738f57feb2fb055a20e88adeb76c0d04d09673b09fe2dde8f8904e642f1"

func TestOddNames(t *testing.T) {
	dir := odd(t)
	b := write(t, dir)
	n := len(b) / tarRecord * tarRecord
	if hexSum(b[:n]) != oddSum {
		t.Errorf("%d bytes, %s", n, hexSum(b[:n]))
	}
	tar, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("no tar here; the fixed sum above was compared")
	}
	if v, _ := exec.Command(tar, "--version").Output(); !bytes.Contains(v, []byte("GNU tar")) {
		t.Skip("this tar is not GNU tar; the fixed sum above was compared")
	}
	cmd := exec.Command(tar, "--sort=name", "--format=posix", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner",
		"--mode=go+u,go-w", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "-C", dir, "-cf", "-", ".")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b[:n]) {
		for i := 0; i < min(len(want), n); i += tarBlock {
			if !bytes.Equal(want[i:i+tarBlock], b[i:i+tarBlock]) {
				t.Fatalf("GNU tar has %d bytes, we %d; block at %d:\n%q\n%q", len(want), n, i, want[i:i+tarBlock], b[i:i+tarBlock])
			}
		}
		t.Fatalf("GNU tar has %d bytes, we %d", len(want), n)
	}
}

// TestLargeFile: a size of 8 GiB and more goes into an extended header.
func TestLargeFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, maxOctal+1); err != nil {
		t.Skipf("no sparse file of 8 GiB here: %v", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	h := header(&member{name: "./x", kind: '0', mode: 0o644, info: info})
	if len(h) != 3*tarBlock || h[156] != 'x' || !bytes.HasPrefix(h, []byte("./PaxHeaders/x\x00")) || !bytes.HasPrefix(h[tarBlock:], []byte("19 size=8589934592\n\x00")) ||
		string(h[124:135]) != "00000000023" || string(h[2*tarBlock+124:2*tarBlock+135]) != "00000000000" || string(h[148:154]) != "010423" || string(h[2*tarBlock+148:2*tarBlock+154]) != "007522" {
		t.Errorf("%q", h)
	}
}

func TestSingleFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "m.gguf", "GGUF", 0o600)
	want, err := Hash(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Hash(t.Context(), filepath.Join(dir, "m.gguf"), nil); err != nil || got != want {
		t.Errorf("%s %v, want %s", got, err, want)
	}
	// A link elsewhere, as download caches have them, counts as the file.
	link := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.Symlink(filepath.Join(dir, "m.gguf"), link); err != nil {
		t.Fatal(err)
	}
	if got, err := Hash(t.Context(), link, nil); err != nil || got != want {
		t.Errorf("%s %v, want %s", got, err, want)
	}
}

func TestRefused(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"empty":          func(string) error { return nil },
		"leads out":      func(d string) error { return os.Symlink("../x", filepath.Join(d, "l")) },
		"absolute":       func(d string) error { return os.Symlink("/etc/hostname", filepath.Join(d, "l")) },
		"leads far out":  func(d string) error { return os.Symlink("a/../../x", filepath.Join(d, "l")) },
		"special file":   func(d string) error { return exec.Command("mkfifo", filepath.Join(d, "p")).Run() },
		"does not exist": func(d string) error { return os.RemoveAll(d) },
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Hash(t.Context(), dir, nil); err == nil {
			t.Errorf("%s: has a hash", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	dir := small(t)
	if _, err := Hash(ctx, dir, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// TestChanged: a file that grows, shrinks or is replaced while it is read has
// no hash.
func TestChanged(t *testing.T) {
	for name, change := range map[string]func(f string) error{
		"grows":       func(f string) error { return os.WriteFile(f, []byte("more than before"), 0o644) },
		"shrinks":     func(f string) error { return os.Truncate(f, 1) },
		"is replaced": func(f string) error { return os.Rename(f+".new", f) },
	} {
		dir := t.TempDir()
		put(t, dir, "a", "before", 0o644)
		put(t, dir, "a.new", "beside", 0o644)
		changed := false
		_, err := Hash(t.Context(), dir, func(int64, int64) {
			if !changed {
				changed = true
				if err := change(filepath.Join(dir, "a")); err != nil {
					t.Error(err)
				}
			}
		})
		if !errors.Is(err, errChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestName(t *testing.T) {
	root, err := Hash(t.Context(), small(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	full, err := Name("Qwen/Qwen3-8B:awq", "b968826d9c46", root)
	if err != nil || full != cocoon.ModelName("Qwen/Qwen3-8B:awq@b968826d9c46:"+smallRoot) || full.Base() != "Qwen/Qwen3-8B:awq" {
		t.Fatalf("%s %v", full, err)
	}
	name, commit, got, err := Parse(full)
	if err != nil || name != "Qwen/Qwen3-8B:awq" || commit != "b968826d9c46" || got != root {
		t.Errorf("%s %s %s %v", name, commit, got, err)
	}
	if l := Listed("Qwen/Qwen3-32B"); hex.EncodeToString(l[:]) != hexSum([]byte("Qwen/Qwen3-32B")) {
		t.Errorf("%x", l)
	}
	for _, bad := range []string{"", "m", "m@c", "m@c:", "m@c:" + smallRoot[1:], "m@c:" + smallRoot + "0", "m@c:" + strings.ToUpper(smallRoot), "@c:" + smallRoot,
		"m@:" + smallRoot, "m m@c:" + smallRoot, "m@c\n:" + smallRoot, "m@c@d:" + smallRoot, "\xff@c:" + smallRoot, strings.Repeat("m", 1000) + "@c:" + smallRoot} {
		if _, _, _, err := Parse(cocoon.ModelName(bad)); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, c := range [][2]string{{"a@b", "c"}, {"a", "b:c"}, {"a", ""}, {"", "b"}, {"a", "b c"}} {
		if _, err := Name(c[0], c[1], root); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func TestCheck(t *testing.T) {
	dir := small(t)
	full := cocoon.ModelName("m@c:" + smallRoot)
	if err := Check(t.Context(), dir, full, nil); err != nil {
		t.Error(err)
	}
	put(t, dir, "sub/w.bin", "WWWWWWWWWX", 0o644)
	if err := Check(t.Context(), dir, full, nil); !errors.Is(err, ErrMismatch) {
		t.Errorf("one byte changed: %v", err)
	}
	if err := Check(t.Context(), dir, "m@c:0", nil); !errors.Is(err, ErrName) {
		t.Errorf("no name: %v", err)
	}
	if err := Check(t.Context(), filepath.Join(dir, "none"), full, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
}

// FuzzParse: a name that can be taken apart is put together again the same.
func FuzzParse(f *testing.F) {
	f.Add("m@c:" + smallRoot)
	f.Add("Qwen/Qwen3:8b@main:" + smallRoot)
	f.Add("m@c:d:" + smallRoot)
	f.Fuzz(func(t *testing.T, s string) {
		name, commit, root, err := Parse(cocoon.ModelName(s))
		if err != nil {
			return
		}
		again, err := Name(name, commit, root)
		if err != nil || string(again) != s {
			t.Fatalf("%q became %q, %v", s, again, err)
		}
		if again.Base() != name {
			t.Fatalf("%q has the base %q", s, again.Base())
		}
	})
}

// FuzzTree: how the data is cut does not matter.
func FuzzTree(f *testing.F) {
	f.Add(uint16(3), uint16(4095), byte(1))
	f.Add(uint16(129), uint16(9000), byte(0))
	f.Fuzz(func(t *testing.T, blocks, step uint16, seed byte) {
		data := make([]byte, (int(blocks)%300+1)*BlockSize)
		for i := range data {
			data[i] = byte(i>>12) ^ seed
		}
		var tree Tree
		for p := data; len(p) > 0; {
			n := min(int(step)+1, len(p))
			tree.Write(p[:n])
			p = p[n:]
		}
		if got, err := tree.Root(); err != nil || got != plainRoot(data) {
			t.Fatalf("%d blocks in steps of %d: %s, %v", len(data)/BlockSize, int(step)+1, got, err)
		}
	})
}

func BenchmarkTree(b *testing.B) {
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var tree Tree
	for b.Loop() {
		tree.Write(data)
	}
	if tree.blocks == 0 {
		b.Error("nothing was hashed")
	}
}
