package main

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// Example is one conversation, or a plain text when Turns is empty.
type Example struct {
	Class  string
	System string
	Turns  []Turn
	Text   string
	// Split marks examples from a space large enough to hold some back.
	Split bool
}

// Turn is one question with the answer the model is to learn.
type Turn struct{ User, Answer string }

// Held reports whether e belongs to the held-out set, which is never trained
// on: one in 32 of the last questions of classes that are large enough.
func (e *Example) Held() bool {
	if !e.Split {
		return false
	}
	h := fnv.New32a()
	h.Write([]byte(e.Turns[len(e.Turns)-1].User))
	return h.Sum32()>>7%32 == 0
}

// gen produces the corpus from one random stream.
type gen struct {
	*rand.Rand
	stage int // 0 or 1
}

func newGen(seed uint64) *gen { return &gen{Rand: rand.New(rand.NewPCG(seed, 0xC0C001))} }

func pick[T any](g *gen, s []T) T { return s[g.IntN(len(s))] }

// lang is an index into every four-language table.
type lang int

const (
	en lang = iota
	id
	ru
	de
	langs
)

type text4 [langs]string

// classes lists the kinds of examples with their share in each stage. The
// second stage, when facts are known, works on what must be copied.
var classes = []struct {
	name   string
	weight [2]int
	make   func(*gen) Example
}{
	{"facts", [2]int{18, 8}, (*gen).facts},
	{"smalltalk", [2]int{9, 5}, (*gen).smalltalk},
	{"translate", [2]int{20, 24}, (*gen).translate},
	{"summary", [2]int{17, 30}, (*gen).summary},
	{"replies", [2]int{8, 7}, (*gen).replies},
	{"label", [2]int{7, 4}, (*gen).label},
	{"fix", [2]int{4, 10}, (*gen).fix},
	{"sum", [2]int{6, 5}, (*gen).sum},
	{"capital", [2]int{4, 4}, (*gen).capital},
	{"other", [2]int{9, 6}, (*gen).other},
	{"text", [2]int{3, 2}, (*gen).plain},
}

// next returns a random example; one in eight continues over several turns.
func (g *gen) next() Example {
	e := g.single()
	if e.Text != "" || g.IntN(8) != 0 {
		return e
	}
	for range 1 + g.IntN(3) {
		p := g.single()
		// Earlier turns must not come from the held-out set either.
		if p.Text != "" || p.Held() || (p.System != "" && p.Class != "facts") {
			continue
		}
		e.Turns = append(append([]Turn(nil), p.Turns...), e.Turns...)
	}
	return e
}

func (g *gen) single() Example {
	total := 0
	for _, c := range classes {
		total += c.weight[g.stage]
	}
	n := g.IntN(total)
	for _, c := range classes {
		if n -= c.weight[g.stage]; n < 0 {
			e := c.make(g)
			e.Class = c.name
			if e.System == "" && e.Text == "" && g.IntN(2) == 0 {
				e.System = pick(g, systems)
			}
			return e
		}
	}
	panic("unreachable")
}

func one(user, answer string) Example { return Example{Turns: []Turn{{user, answer}}} }

func split(user, answer string) Example {
	e := one(user, answer)
	e.Split = true
	return e
}

// vary changes what people vary: case, final marks, a polite word.
func (g *gen) vary(s string, l lang) string {
	if g.IntN(6) == 0 {
		s = strings.TrimRight(s, "?.!")
	}
	if g.IntN(5) == 0 {
		s = strings.ToLower(s)
	}
	switch g.IntN(12) {
	case 0:
		s = pick(g, hellos[l]) + pick(g, []string{", ", "! ", ". "}) + s
	case 1:
		s += " " + pick(g, pleases[l])
	}
	return s
}

func upper(s string) string {
	for i, r := range s {
		return strings.ToUpper(string(r)) + s[i+len(string(r)):]
	}
	return s
}

func (g *gen) facts() Example {
	f := pick(g, factTable)
	l := lang(0)
	if g.IntN(3) > 0 {
		l = lang(g.IntN(int(langs)))
	}
	q := pick(g, strings.Split(f.q[l], "|"))
	return one(g.vary(q, l), f.a[l])
}

func (g *gen) plain() Example {
	l := lang(g.IntN(int(langs)))
	var b strings.Builder
	for i := range 2 + g.IntN(3) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(pick(g, factTable).a[l])
	}
	return Example{Text: b.String()}
}

func (g *gen) smalltalk() Example {
	f := pick(g, talkTable)
	l := lang(g.IntN(int(langs)))
	q := pick(g, strings.Split(f.q[l], "|"))
	if g.IntN(4) == 0 {
		q = strings.ToLower(q)
	}
	if g.IntN(3) == 0 {
		q = strings.TrimRight(q, "?.!")
	} else if g.IntN(6) == 0 {
		q += pick(g, []string{"!", ".", " :)", "!!"})
	}
	if g.IntN(10) == 0 && f.named {
		n := g.person(l)
		return one(strings.TrimRight(q, ".!?")+", "+n+"!", f.a[l])
	}
	return one(q, f.a[l])
}

// person returns a name; half are invented, so that the model learns to copy.
func (g *gen) person(l lang) string {
	if g.IntN(2) == 0 {
		if l == ru {
			return pick(g, namesRu)
		}
		return pick(g, namesLatin)
	}
	on, vo := []string{"b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "j", "h"}, []string{"a", "e", "i", "o", "u"}
	if l == ru {
		on, vo = []string{"б", "д", "ф", "г", "к", "л", "м", "н", "п", "р", "с", "т", "в", "з"}, []string{"а", "е", "и", "о", "у"}
	}
	s := pick(g, on) + pick(g, vo) + pick(g, on)
	if g.IntN(2) == 0 {
		s += pick(g, vo) + pick(g, on)
	}
	if g.IntN(2) == 0 {
		s += pick(g, vo)
	}
	return upper(s)
}

func (g *gen) people(l lang, n int) []string {
	var out []string
next:
	for len(out) < n {
		p := g.person(l)
		for _, q := range out {
			if q == p {
				continue next
			}
		}
		out = append(out, p)
	}
	return out
}

func (g *gen) clock() string {
	m := pick(g, []int{0, 0, 15, 30, 30, 45, 5, 10, 20, 40, 50})
	return fmt.Sprintf("%d:%02d", 7+g.IntN(16), m)
}

// fill replaces slots like {A}; the same slot gets the same value.
func fill(s string, slots map[string]string) string {
	for k, v := range slots {
		s = strings.ReplaceAll(s, "{"+k+"}", v)
	}
	return s
}

// phrase returns one phrase in all languages, slots filled alike.
func (g *gen) phrase() text4 {
	p := pick(g, phraseTable)
	if !strings.Contains(p[0], "{") {
		return p
	}
	day, place, what := pick(g, dayTable), pick(g, placeTable), pick(g, whatTable)
	t, n, name := g.clock(), fmt.Sprint(2+g.IntN(58)), g.person(en)
	for l := range p {
		p[l] = fill(p[l], map[string]string{"T": t, "N": n, "A": name, "D": day[l], "P": place[l], "X": what[l]})
		p[l] = upper(p[l])
	}
	return p
}

func (g *gen) translate() Example {
	p := g.phrase()
	from, to := lang(g.IntN(int(langs))), lang(g.IntN(int(langs)))
	for from == to {
		to = lang(g.IntN(int(langs)))
	}
	src, dst := p[from], p[to]
	if g.IntN(6) == 0 {
		src = strings.ToLower(src)
	}
	if g.IntN(6) == 0 {
		src = strings.TrimRight(src, ".!?")
	}
	switch g.IntN(10) {
	case 0, 1:
		e := split(src, dst)
		e.System = fmt.Sprintf(pick(g, translateSystems), langName[en][to])
		return e
	case 2, 3:
		n := 1 + g.IntN(2)
		in, out := []string{src}, []string{dst}
		for range n - 1 {
			q := g.phrase()
			in, out = append(in, q[from]), append(out, q[to])
		}
		e := split(`{"texts":`+jsonList(in)+`,"to":"`+langCode[to]+`"}`, `{"texts":`+jsonList(out)+`}`)
		e.System = pick(g, []string{"Translate the texts. Answer as JSON.", "You translate chat messages. The user sends JSON; answer with JSON.", fmt.Sprintf(pick(g, translateSystems), langName[en][to])})
		return e
	}
	l := en
	if g.IntN(2) == 0 {
		l = lang(g.IntN(int(langs)))
	}
	q := pick(g, []string{`"%s"`, `"%s"`, "%s", "“%s”", "'%s'"})
	w := pick(g, translateWrap[l])
	return split(fill(w, map[string]string{"S": fmt.Sprintf(q, src), "L": langName[l][to]}), dst)
}

func jsonList(s []string) string {
	var b strings.Builder
	for i, v := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(v) + `"`)
	}
	return "[" + b.String() + "]"
}

func (g *gen) summary() Example {
	l := en
	if g.IntN(2) == 0 {
		l = lang(g.IntN(int(langs)))
	}
	c := pick(g, chatTable)
	who := g.people(l, 3)
	day, other := pick(g, dayTable), pick(g, dayTable)
	for other == day {
		other = pick(g, dayTable)
	}
	item := pick(g, itemTable)
	second := pick(g, itemTable)
	for second == item {
		second = pick(g, itemTable)
	}
	t1, t2 := g.clock(), g.clock()
	for t1 == t2 {
		t2 = g.clock()
	}
	slots := map[string]string{
		"A": who[0], "B": who[1], "C": who[2], "T": t1, "U": t2, "N": fmt.Sprint(2 + g.IntN(58)),
		"D": day[l], "E": other[l], "P": pick(g, placeTable)[l], "X": pick(g, whatTable)[l], "I": item[l], "J": second[l],
	}
	lines := strings.Split(c.chat[l], "|")
	answer := upper(fill(c.sum[l], slots))
	for i := range lines {
		lines[i] = fill(lines[i], slots)
		if g.IntN(3) == 0 {
			name, text, _ := strings.Cut(lines[i], ": ")
			lines[i] = name + ": " + upper(text)
		}
	}
	// A word of small talk that the summary must leave out.
	if g.IntN(3) == 0 {
		lines = append([]string{who[g.IntN(2)] + ": " + pick(g, hellos[l])}, lines...)
	}
	if g.IntN(4) == 0 {
		lines = append(lines, who[g.IntN(2)]+": "+pick(g, byes[l]))
	}
	if g.IntN(3) == 0 {
		var b strings.Builder
		refs := ""
		for i, s := range lines {
			name, text, _ := strings.Cut(s, ": ")
			if i > 0 {
				b.WriteByte(',')
				refs += ","
			}
			refs += fmt.Sprint(i + 1)
			fmt.Fprintf(&b, `{"id":%d,"from":"%s","text":"%s"}`, i+1, name, text)
		}
		e := split(`{"messages":[`+b.String()+`]}`, `{"summary":[{"text":"`+answer+`","refs":[`+refs+`]}]}`)
		e.System = pick(g, []string{"Summarise the chat. Answer as JSON.", "You summarise chat messages. The user sends JSON; answer with JSON.", "Summarize the messages in short sentences."})
		return e
	}
	sep := pick(g, []string{"\n", "\n", " "})
	body := strings.Join(lines, sep)
	if g.IntN(5) == 0 {
		e := split(body, answer)
		e.System = pick(g, []string{"Summarise the chat.", "You summarise chats in one sentence.", "Summarize the conversation of the user."})
		return e
	}
	return split(pick(g, summaryWrap[l])+pick(g, []string{" ", "\n", "\n"})+body, answer)
}

func (g *gen) replies() Example {
	l := en
	if g.IntN(2) == 0 {
		l = lang(g.IntN(int(langs)))
	}
	r := pick(g, replyTable)
	slots := map[string]string{"T": g.clock(), "D": pick(g, dayTable)[l], "X": pick(g, whatTable)[l], "P": pick(g, placeTable)[l], "N": fmt.Sprint(2 + g.IntN(58))}
	msg := upper(fill(pick(g, strings.Split(r.msg[l], "|")), slots))
	opts := strings.Split(r.reply[l], "|")
	name := g.person(l)
	switch g.IntN(3) {
	case 0:
		e := split(`{"messages":[{"id":1,"from":"`+name+`","text":"`+msg+`"}]}`, "")
		var b strings.Builder
		for i, o := range opts {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"text":"%s","intent":"%s"}`, o, r.intent[i])
		}
		e.Turns[0].Answer = `{"replies":[` + b.String() + `]}`
		e.System = pick(g, []string{"Suggest three replies. Answer as JSON.", "You suggest short replies to chat messages. The user sends JSON; answer with JSON.", "Suggest replies to the last message."})
		return e
	case 1:
		return split(pick(g, replyJSONWrap[l])+" "+msg, `{"replies":`+jsonList(opts)+`}`)
	}
	if g.IntN(2) == 0 {
		msg = name + ": " + msg
	}
	return split(pick(g, replyWrap[l])+" "+msg, "1. "+opts[0]+"\n2. "+opts[1]+"\n3. "+opts[2])
}

func (g *gen) label() Example {
	l := en
	if g.IntN(2) == 0 {
		l = lang(g.IntN(int(langs)))
	}
	k := pick(g, labelTable)
	slots := map[string]string{"T": g.clock(), "D": pick(g, dayTable)[l], "X": pick(g, whatTable)[l], "P": pick(g, placeTable)[l], "N": fmt.Sprint(2 + g.IntN(98)), "A": g.person(l), "I": pick(g, itemTable)[l]}
	msg := upper(fill(pick(g, strings.Split(k.msg[l], "|")), slots))
	if g.IntN(4) == 0 {
		e := split(msg, `{"label":"`+k.label+`"}`)
		e.System = pick(g, []string{"Label the message: spam, work, private or urgent. Answer as JSON.", "You sort messages into spam, work, private, urgent. Answer as JSON."})
		return e
	}
	return split(pick(g, labelWrap[l])+" "+msg, `{"label":"`+k.label+`"}`)
}

func (g *gen) fix() Example {
	l := lang(g.IntN(int(langs)))
	good := g.phrase()[l]
	r := []rune(good)
	for range 1 + g.IntN(2) {
		i := 1 + g.IntN(len(r)-2)
		if r[i] == ' ' || r[i+1] == ' ' {
			continue
		}
		switch g.IntN(3) {
		case 0:
			r[i], r[i+1] = r[i+1], r[i]
		case 1:
			r = append(r[:i:i], r[i+1:]...)
		default:
			r = append(r[:i+1:i+1], r[i:]...)
		}
		if len(r) < 4 {
			break
		}
	}
	bad := string(r)
	if g.IntN(2) == 0 {
		bad = strings.ToLower(bad)
	}
	return split(pick(g, fixWrap[l])+" "+bad, good)
}

func (g *gen) sum() Example {
	l := lang(g.IntN(int(langs)))
	a, b := g.IntN(51), g.IntN(51)
	op, r := "+", a+b
	switch g.IntN(5) {
	case 0, 1:
		if a < b {
			a, b = b, a
		}
		op, r = pick(g, []string{"-", "-", "−"}), a-b
	case 2:
		a, b = g.IntN(13), g.IntN(13)
		op, r = pick(g, []string{"*", "×", "x"}), a*b
	}
	expr := fmt.Sprintf(pick(g, []string{"%d %s %d", "%d %s %d", "%d%s%d"}), a, op, b)
	q := fill(pick(g, sumWrap[l]), map[string]string{"S": expr})
	return split(q, fmt.Sprint(r))
}

func (g *gen) capital() Example {
	l := lang(g.IntN(int(langs)))
	c := pick(g, capitalTable)
	q := fill(pick(g, capitalWrap[l]), map[string]string{"S": c[0][l]})
	return one(g.vary(q, l), upper(fill(capitalAnswer[l], map[string]string{"S": c[0][l], "C": c[1][l]})))
}

func (g *gen) other() Example {
	l := lang(g.IntN(int(langs)))
	if g.IntN(3) == 0 {
		l = en
	}
	q := pick(g, strings.Split(otherTable[l], "|"))
	q = fill(q, map[string]string{"X": pick(g, strings.Split(topicTable[l], "|")), "Y": pick(g, strings.Split(topicTable[l], "|")), "W": g.person(l), "N": fmt.Sprint(g.IntN(2000))})
	switch g.IntN(8) {
	case 0:
		var w []string
		for range 1 + g.IntN(5) {
			w = append(w, strings.ToLower(g.person(l))+strings.ToLower(g.person(l)))
		}
		q, l = strings.Join(w, " "), en
	case 1:
		q += " " + pick(g, pleases[l])
	}
	return one(g.vary(q, l), demoSentence[l])
}
