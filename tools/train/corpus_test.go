package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestCorpus(t *testing.T) {
	g := newGen(1)
	n, held := 0, 0
	for i := range 3000 {
		e := g.next()
		if e.Held() {
			held++
		}
		for _, u := range e.Turns {
			if strings.ContainsAny(u.User+u.Answer, "%") || u.User == "" || u.Answer == "" {
				t.Fatalf("%s: %q -> %q", e.Class, u.User, u.Answer)
			}
			if i := strings.IndexByte(u.Answer, '{'); i > 0 && u.Answer[i+1] != '"' {
				t.Fatalf("slot left open: %q", u.Answer)
			}
		}
		if i < 40 && testing.Verbose() {
			fmt.Printf("%s sys=%q %q %s\n", e.Class, e.System, e.Turns, e.Text)
		}
		n++
	}
	if held < 20 || held > n/10 {
		t.Errorf("held out %d of %d", held, n)
	}
}

func TestTokenizer(t *testing.T) {
	g := newGen(2)
	counts := map[string]int{}
	var texts []string
	for range 500 {
		e := g.next()
		for _, u := range e.Turns {
			texts = append(texts, u.User, u.Answer)
		}
	}
	for _, s := range texts {
		for _, w := range splitWords(s) {
			counts[w]++
		}
	}
	tok := trainBPE(counts, 512)
	for _, s := range append(texts, "a  b\n\n c\t1234  ", "don't I'LL x", "🙂 ünï") {
		if got := tok.Decode(tok.Encode(s)); got != s {
			t.Fatalf("%q became %q", s, got)
		}
	}
	if got := fmt.Sprintf("%q", splitWords("Hi, I'm 12 years\n\n old!  ok ")); got != `["Hi" "," " I" "'m" " " "1" "2" " years" "\n\n" " old" "!" " " " ok" " "]` {
		t.Error(got)
	}
}
