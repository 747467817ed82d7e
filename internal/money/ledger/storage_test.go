package ledger

import (
	"errors"
	"maps"
	"slices"
	"sync"
)

var errDied = errors.New("the machine died")

// machineDisk is storage that dies at a chosen operation. What survives is
// what was synced, and of the rest as much as the survivor chooses.
type machineDisk struct {
	mu     sync.Mutex
	names_ map[string]*diskFile // as the running process sees it
	synced map[string]*diskFile // names after the last directory sync
	ops    int
	dieAt  int // 0 = never
}

type diskFile struct {
	disk   *machineDisk
	data   []byte
	synced int // bytes
}

func newDisk() *machineDisk {
	return &machineDisk{names_: map[string]*diskFile{}, synced: map[string]*diskFile{}}
}

// op counts one operation and reports whether the machine still lives.
func (d *machineDisk) op() error {
	if d.dieAt != 0 && d.ops >= d.dieAt {
		return errDied
	}
	d.ops++
	if d.dieAt != 0 && d.ops == d.dieAt {
		return errDied
	}
	return nil
}

// Ways to die.
const (
	loseUnsynced  = iota // nothing that was not synced survives
	keepAll              // everything written survives
	tornWrite            // half of what was not synced survives
	garbageTail          // what was not synced survives as zeros
	keepNamesLose        // new names survive, unsynced data does not
	waysToDie     = iota
)

// survivors returns the disk after a restart.
func (d *machineDisk) survivors(way int) *machineDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.synced
	if way == keepAll || way == keepNamesLose {
		names = d.names_
	}
	out := newDisk()
	for name, f := range names {
		g := &diskFile{disk: out, data: slices.Clone(f.data)}
		switch way {
		case loseUnsynced, keepNamesLose:
			g.data = g.data[:f.synced]
		case tornWrite:
			g.data = g.data[:f.synced+(len(f.data)-f.synced)/2]
		case garbageTail:
			clear(g.data[f.synced:])
		}
		g.synced = len(g.data)
		out.names_[name], out.synced[name] = g, g
	}
	return out
}

func (d *machineDisk) path(name string) string { return "/disk/" + name }

func (d *machineDisk) names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names_)), nil
}

func (d *machineDisk) read(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.names_[name].data), nil
}

func (d *machineDisk) create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return nil, err
	}
	f := &diskFile{disk: d}
	d.names_[name] = f
	return f, nil
}

func (d *machineDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.names_[to] = d.names_[from]
	delete(d.names_, from)
	return nil
}

func (d *machineDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	delete(d.names_, name)
	return nil
}

func (d *machineDisk) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.synced = maps.Clone(d.names_)
	return nil
}

func (f *diskFile) Write(b []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.op(); err != nil {
		if f.disk.ops == f.disk.dieAt { // died while writing
			f.data = append(f.data, b[:len(b)*2/3]...)
			f.disk.ops++
		}
		return 0, err
	}
	f.data = append(f.data, b...)
	return len(b), nil
}

func (f *diskFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.op(); err != nil {
		return err
	}
	f.synced = len(f.data)
	return nil
}

func (f *diskFile) Close() error { return nil }
