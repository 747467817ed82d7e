//go:build !tee

package demo

import "sync"

// prefixes remembers keys and values of recent prompts, so that a prompt that
// begins like an earlier one of the same salt is not computed again. Its size
// is bounded in positions; the entry not used for longest goes first.
type prefixes struct {
	mu      sync.Mutex
	limit   int
	size    int
	entries []*prefix // the last used is at the end
}

type prefix struct {
	salt   string
	tokens []int32
	c      *cache
}

// leastPrefix is the shortest match worth copying.
const leastPrefix = 8

// find returns a copy of the longest stored beginning of tokens; at least one
// token is left to compute. The cache is empty if nothing fits.
func (p *prefixes) find(m *model, salt string, tokens []int32) *cache {
	p.mu.Lock()
	defer p.mu.Unlock()
	best, at := leastPrefix-1, -1
	for i, e := range p.entries {
		if e.salt != salt {
			continue
		}
		n := 0
		for n < len(e.tokens) && n < len(tokens)-1 && e.tokens[n] == tokens[n] {
			n++
		}
		if n > best {
			best, at = n, i
		}
	}
	if at < 0 {
		return m.newCache()
	}
	e := p.entries[at]
	p.entries = append(append(p.entries[:at:at], p.entries[at+1:]...), e)
	return e.c.clone(m, best)
}

// add remembers a computed prompt.
func (p *prefixes) add(m *model, salt string, tokens []int32, c *cache) {
	if len(tokens) < leastPrefix || len(tokens) > p.limit {
		return
	}
	e := &prefix{salt, append([]int32(nil), tokens...), c.clone(m, len(tokens))}
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := p.entries[:0]
	for _, o := range p.entries {
		if o.salt == salt && covers(tokens, o.tokens) {
			p.size -= len(o.tokens)
			continue
		}
		keep = append(keep, o)
	}
	clear(p.entries[len(keep):])
	p.entries = append(keep, e)
	p.size += len(tokens)
	for p.size > p.limit {
		p.size -= len(p.entries[0].tokens)
		p.entries[0] = nil
		p.entries = p.entries[1:]
	}
}

// covers reports whether short is a beginning of long.
func covers(long, short []int32) bool {
	if len(short) > len(long) {
		return false
	}
	for i, t := range short {
		if long[i] != t {
			return false
		}
	}
	return true
}
