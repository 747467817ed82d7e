package modelhash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The archive is the one GNU tar makes with --format=posix --sort=name
// --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go+u,go-w and without
// access and change times, written out here because archive/tar lays some
// fields out differently.

const (
	tarBlock  = 512
	tarRecord = 20 * tarBlock // an archive is a whole number of records
	nameField = 100
	maxOctal  = 1<<33 - 1 // what 11 octal digits hold: 8 GiB - 1
)

// member is one entry of the archive.
type member struct {
	path string // inside the root, "." for the folder itself
	name string // in the archive: ./a/b, folders with a slash at the end
	link string // target of a link
	kind byte   // '0' file, '1' hard link, '2' symbolic link, '5' folder
	mode uint32
	info fs.FileInfo
}

// size is how many bytes of content follow the header.
func (m *member) size() int64 {
	if m.kind == '0' {
		return m.info.Size()
	}
	return 0
}

// WriteArchive writes the normalised archive of the model at path to w, with
// the padding that makes it a dm-verity device, and returns its size, a
// multiple of BlockSize. A path that is a file is archived as the only file of
// a folder.
func WriteArchive(ctx context.Context, w io.Writer, path string, progress Progress) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("model: %w", err)
	}
	dir, file := path, ""
	if !info.IsDir() {
		// The path may be a symbolic link, as download caches make them: the
		// file behind it is what is served, under the name it was called by.
		if file, err = filepath.EvalSymlinks(path); err != nil {
			return 0, fmt.Errorf("model: %w", err)
		}
		dir = filepath.Dir(file)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("model: %w", err)
	}
	defer root.Close()
	var members []member
	if file != "" {
		members, err = single(filepath.Base(path), filepath.Base(file), info)
	} else {
		members, err = list(ctx, root)
	}
	if err != nil {
		return 0, err
	}
	a := archive{ctx: ctx, w: w, progress: progress, buf: make([]byte, bufSize)}
	for i := range members {
		a.total += int64(len(header(&members[i]))) + up(members[i].size(), tarBlock)
	}
	plain := up(a.total+2*tarBlock, tarRecord)
	a.total = plain + BlockSize - plain%BlockSize
	for i := range members {
		if err := a.member(root, &members[i]); err != nil {
			return a.done, err
		}
	}
	return a.done, a.zeros(a.total - a.done)
}

func up(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// single lists a folder that holds one file, called name.
func single(name, file string, info fs.FileInfo) ([]member, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("model: %s is neither a folder nor a regular file", file)
	}
	return []member{
		{path: ".", name: "./", kind: '5', mode: 0o755},
		{path: file, name: "./" + name, kind: '0', mode: modeOf(info.Mode()), info: info},
	}, nil
}

// list walks a folder: each folder's entries in byte order, a folder's content
// right after it.
func list(ctx context.Context, root *os.Root) ([]member, error) {
	var members []member
	seen := map[int64][]int{} // regular files by size, to know hard links
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		info, err := root.Lstat(filepath.FromSlash(p))
		if err != nil {
			return err
		}
		m := member{path: p, name: "./" + p, kind: '0', mode: modeOf(info.Mode()), info: info}
		if p == "." {
			m.name = "."
		}
		switch mode := info.Mode(); {
		case mode.IsDir():
			m.kind = '5'
			m.name += "/"
		case mode&fs.ModeSymlink != 0:
			m.kind = '2'
			if m.link, err = root.Readlink(filepath.FromSlash(p)); err != nil {
				return err
			}
			if !inside(p, m.link) {
				return fmt.Errorf("%s is a symbolic link that leads out of the folder, so its content would not be hashed: copy the files themselves (cp -rL)", p)
			}
		case mode.IsRegular():
			for _, i := range seen[info.Size()] {
				if os.SameFile(members[i].info, info) {
					m.kind, m.link = '1', members[i].name
					break
				}
			}
			if m.kind == '0' {
				seen[info.Size()] = append(seen[info.Size()], len(members))
			}
		default:
			return fmt.Errorf("%s is neither a file, a folder nor a link", p)
		}
		members = append(members, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if len(members) == 1 {
		return nil, errors.New("model: the folder is empty")
	}
	return members, nil
}

// inside reports whether a symbolic link at p stays below the folder.
func inside(p, target string) bool {
	if path.IsAbs(target) || filepath.IsAbs(target) {
		return false
	}
	to := path.Join(path.Dir(p), filepath.ToSlash(target))
	return to != ".." && !strings.HasPrefix(to, "../")
}

// modeOf normalises permissions as "go+u,go-w" does: group and others get what
// the owner has, and nobody but the owner writes.
func modeOf(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	if m&fs.ModeSymlink != 0 {
		bits = 0o777 // what systems without modes of links should say
	}
	owner := bits >> 6 & 7
	bits = (bits | owner<<3 | owner) &^ 0o022
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

// header returns the header blocks of a member. Names and sizes that do not
// fit, and names that are not ASCII, bring an extended header before it.
func header(m *member) []byte {
	var records []byte
	if len(m.link) > nameField {
		records = record(records, "linkpath", m.link)
	}
	if len(m.name) > nameField || !ascii(m.name) {
		records = record(records, "path", m.name)
	}
	size := m.size()
	if size > maxOctal {
		records = record(records, "size", fmt.Sprint(size))
		size = 0
	}
	var out []byte
	if records != nil {
		dir, base := path.Split(strings.TrimSuffix(m.name, "/"))
		out = block(out, dir+"PaxHeaders/"+base, "", 'x', 0o644, int64(len(records)))
		out = append(out, records...)
		out = append(out, make([]byte, up(int64(len(records)), tarBlock)-int64(len(records)))...)
	}
	return block(out, m.name, m.link, m.kind, m.mode, size)
}

// block appends one ustar header block.
func block(out []byte, name, link string, kind byte, mode uint32, size int64) []byte {
	var b [tarBlock]byte
	copy(b[:nameField], name)
	copy(b[100:], fmt.Sprintf("%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00", mode, 0, 0, size, 0))
	b[156] = kind
	copy(b[157:157+nameField], link)
	copy(b[257:], "ustar\x0000")
	if kind != 'x' {
		copy(b[329:], "0000000\x000000000\x00") // device numbers
	}
	copy(b[148:156], "        ")
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(out, b[:]...)
}

// record appends "length key=value\n", where length counts itself.
func record(out []byte, key, value string) []byte {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for n != len(rest)+len(fmt.Sprint(n)) {
		n = len(rest) + len(fmt.Sprint(n))
	}
	return fmt.Appendf(out, "%d%s", n, rest)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// bufSize is what is read and hashed at once.
const bufSize = 4 << 20

// archive is one archive on its way out.
type archive struct {
	ctx         context.Context
	w           io.Writer
	progress    Progress
	buf         []byte
	done, total int64
}

func (a *archive) member(root *os.Root, m *member) error {
	if err := a.write(header(m)); err != nil {
		return err
	}
	if m.kind != '0' {
		return nil
	}
	f, err := root.Open(filepath.FromSlash(m.path))
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	defer f.Close()
	if err := a.content(f, m.info); err != nil {
		return fmt.Errorf("model: %s: %w", m.path, err)
	}
	return a.zeros(up(m.size(), tarBlock) - m.size())
}

var errChanged = errors.New("the file changed while it was read")

// content copies a file that must be the one that was listed, in full.
func (a *archive) content(f *os.File, listed fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(now, listed) || now.Size() != listed.Size() {
		return errChanged
	}
	left := listed.Size()
	for {
		n, err := f.Read(a.buf)
		if int64(n) > left {
			return errChanged
		}
		left -= int64(n)
		if n > 0 {
			if err := a.write(a.buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF && left == 0 {
			break
		}
		if err == io.EOF {
			return errChanged
		}
		if err != nil {
			return err
		}
	}
	if now, err = f.Stat(); err != nil {
		return err
	}
	if !now.ModTime().Equal(listed.ModTime()) {
		return errChanged
	}
	return nil
}

func (a *archive) write(p []byte) error {
	if err := context.Cause(a.ctx); err != nil {
		return err
	}
	n, err := a.w.Write(p)
	a.done += int64(n)
	if a.progress != nil {
		a.progress(a.done, a.total)
	}
	return err
}

func (a *archive) zeros(n int64) error {
	clear(a.buf)
	for n > 0 {
		k := min(n, int64(len(a.buf)))
		if err := a.write(a.buf[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// copyArchive writes an archive that exists already.
func copyArchive(ctx context.Context, w io.Writer, file string, info fs.FileInfo, progress Progress) error {
	if info.Size()%BlockSize != 0 {
		return fmt.Errorf("model: %s has %d bytes, which is no multiple of %d: it is no padded archive; hash the folder it was made of", file, info.Size(), BlockSize)
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	defer f.Close()
	a := archive{ctx: ctx, w: w, progress: progress, buf: make([]byte, bufSize), total: info.Size()}
	if err := a.content(f, info); err != nil {
		return fmt.Errorf("model: %s: %w", file, err)
	}
	return nil
}
