package measure

import (
	"fmt"
	"strings"
)

// ignoreFile is one .gitignore with those above it, whose word counts less.
type ignoreFile struct {
	above *ignoreFile
	dir   string // of the file, "." at the top
	rules []ignoreRule
}

type ignoreRule struct {
	negate   bool     // matching files are taken after all
	dirOnly  bool     // folders only
	anchored bool     // counts from the file's folder, not at any depth
	parts    []string // between slashes; "**" spans folders
}

// maxIgnore bounds the rules of one file and the work per rule.
const (
	maxIgnoreRules = 10000
	maxIgnoreParts = 64
	maxIgnoreLine  = 4096
)

// parseIgnore reads a .gitignore (gitignore(5)).
func parseIgnore(above *ignoreFile, dir, text string) (*ignoreFile, error) {
	f := &ignoreFile{above: above, dir: dir}
	text = strings.TrimPrefix(text, "\ufeff")
	for n, line := range strings.Split(text, "\n") {
		if len(line) > maxIgnoreLine || len(f.rules) >= maxIgnoreRules {
			return nil, fmt.Errorf("%w: %s/.gitignore, line %d: too long", ErrSpec, dir, n+1)
		}
		line = trimTrailing(strings.TrimSuffix(line, "\r"))
		if line == "" || line[0] == '#' {
			continue
		}
		var r ignoreRule
		if line[0] == '!' {
			r.negate, line = true, line[1:]
		}
		if strings.HasSuffix(line, "/") {
			r.dirOnly, line = true, line[:len(line)-1]
		}
		r.anchored = strings.Contains(line, "/")
		line = strings.TrimPrefix(line, "/")
		if line == "" {
			continue
		}
		r.parts = strings.Split(line, "/")
		if len(r.parts) > maxIgnoreParts {
			return nil, fmt.Errorf("%w: %s/.gitignore, line %d: too many folders", ErrSpec, dir, n+1)
		}
		f.rules = append(f.rules, r)
	}
	return f, nil
}

// trimTrailing drops spaces at the end, but for an escaped one.
func trimTrailing(s string) string {
	for strings.HasSuffix(s, " ") {
		slashes := 0
		for i := len(s) - 2; i >= 0 && s[i] == '\\'; i-- {
			slashes++
		}
		if slashes%2 == 1 {
			return s
		}
		s = s[:len(s)-1]
	}
	return s
}

// ignores reports whether a path, whose folders are not ignored, is. The last
// rule that matches decides, those of the nearest file first.
func (f *ignoreFile) ignores(full string, isDir bool) bool {
	for ; f != nil; f = f.above {
		rel := full
		if f.dir != "." {
			rel = strings.TrimPrefix(full, f.dir+"/")
		}
		segments := strings.Split(rel, "/")
		for i := len(f.rules) - 1; i >= 0; i-- {
			r := &f.rules[i]
			if r.dirOnly && !isDir {
				continue
			}
			matches := false
			if r.anchored {
				matches = matchPath(r.parts, segments)
			} else {
				matches = matchName(r.parts[0], segments[len(segments)-1])
			}
			if matches {
				return !r.negate
			}
		}
	}
	return false
}

// matchPath matches a path, part by part. It fills a table rather than
// searching, so that no pattern is expensive.
func matchPath(pattern, name []string) bool {
	// reach[j]: the parts so far match the first j segments.
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for i, p := range pattern {
		next := make([]bool, len(name)+1)
		for j, ok := range reach {
			switch {
			case !ok:
			case p == "**" && i == len(pattern)-1: // everything inside
				for k := j + 1; k <= len(name); k++ {
					next[k] = true
				}
			case p == "**":
				for k := j; k <= len(name); k++ {
					next[k] = true
				}
			case j < len(name) && matchName(p, name[j]):
				next[j+1] = true
			}
		}
		reach = next
	}
	return reach[len(name)]
}

// matchName matches one name against a shell pattern: * ? [set] and \.
func matchName(pattern, name string) bool {
	// Greedy with one point of return, the usual linear-space method.
	star, back := -1, 0
	p, n := 0, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, back = p, n
			p++
			continue
		}
		if size, ok := matchByte(pattern[p:], name[n]); ok {
			p += size
			n++
			continue
		}
		if star < 0 {
			return false
		}
		back++
		p, n = star+1, back
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchByte matches one byte with the first element of a pattern and returns
// the element's size.
func matchByte(pattern string, c byte) (size int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) < 2 {
			return 0, false
		}
		return 2, pattern[1] == c
	case '[':
		return matchSet(pattern, c)
	}
	return 1, pattern[0] == c
}

// classes are the named sets, as in [[:digit:]].
var classes = map[string]func(c byte) bool{
	"alnum":  func(c byte) bool { return isAlpha(c) || isDigit(c) },
	"alpha":  isAlpha,
	"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
	"cntrl":  func(c byte) bool { return c < 32 || c == 127 },
	"digit":  isDigit,
	"graph":  func(c byte) bool { return c > 32 && c < 127 },
	"lower":  func(c byte) bool { return c >= 'a' && c <= 'z' },
	"print":  func(c byte) bool { return c >= 32 && c < 127 },
	"punct":  func(c byte) bool { return c > 32 && c < 127 && !isAlpha(c) && !isDigit(c) },
	"space":  func(c byte) bool { return c == ' ' || c >= 9 && c <= 13 },
	"upper":  func(c byte) bool { return c >= 'A' && c <= 'Z' },
	"xdigit": func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' },
}

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// matchSet matches a byte with a set in brackets. A set without an end matches
// nothing.
func matchSet(pattern string, c byte) (size int, ok bool) {
	i := 1
	negate := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negate {
		i++
	}
	for first := true; ; first = false {
		if i >= len(pattern) {
			return 0, false
		}
		if pattern[i] == ']' && !first {
			return i + 1, ok != negate && c != '/'
		}
		if strings.HasPrefix(pattern[i:], "[:") {
			if name, _, found := strings.Cut(pattern[i+2:], ":]"); found {
				class, known := classes[name]
				if !known {
					return 0, false
				}
				ok = ok || class(c)
				i += len(name) + 4
				continue
			}
		}
		low, n := setByte(pattern[i:])
		if n == 0 {
			return 0, false
		}
		i += n
		high := low
		if i+1 < len(pattern) && pattern[i] == '-' && pattern[i+1] != ']' {
			if high, n = setByte(pattern[i+1:]); n == 0 {
				return 0, false
			}
			i += 1 + n
		}
		ok = ok || low <= c && c <= high
	}
}

// setByte reads one byte of a set, which may be escaped.
func setByte(s string) (c byte, size int) {
	if s[0] != '\\' {
		return s[0], 1
	}
	if len(s) < 2 {
		return 0, 0
	}
	return s[1], 2
}
