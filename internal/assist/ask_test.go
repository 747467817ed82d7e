package assist

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAsk(t *testing.T) {
	for name, c := range map[string]struct {
		answer   string
		text     string
		refs     string
		fallback bool
	}{
		"answered":          {`{"answer":"On Monday at 10:30.","refs":[1,1]}`, "On Monday at 10:30.", `[501]`, false},
		"not said":          {`{"answer":"","refs":[]}`, "", `[]`, false},
		"a foreign message": {`{"answer":"Yes.","refs":[7]}`, "", `[]`, true},
		"no refs":           {`{"answer":"Yes.","refs":[]}`, "", `[]`, true},
		"refs alone":        {`{"answer":" ","refs":[1]}`, "", `[]`, true},
		"no JSON":           {`Monday`, "", `[]`, true},
	} {
		m := &scripted{answer: func(int, *Call) string { return c.answer }}
		var drafted strings.Builder
		r, err := New(m, false).Ask(t.Context(), &AskRequest{Query: "When do they meet?", Messages: chat}, func(s string) { drafted.WriteString(s) })
		if err != nil {
			t.Fatal(name, err)
		}
		refs, _ := json.Marshal(r.Refs)
		if r.Text != c.text || string(refs) != c.refs || r.Fallback != c.fallback || (c.text == "") != (len(r.Notes) == 1) {
			t.Errorf("%s: %+v, refs %s", name, r, refs)
		}
		if c.fallback && len(m.calls) != 2 {
			t.Errorf("%s: %d calls; one repair is due", name, len(m.calls))
		}
		if c.text != "" && drafted.String() != c.text {
			t.Errorf("%s: drafted %q", name, drafted.String())
		}
	}
	m := &scripted{}
	r, err := New(m, true).Ask(t.Context(), &AskRequest{Query: "When?", Messages: chat}, nil)
	if err != nil || !r.Fallback || len(m.calls) != 0 || r.Verdict != "none" || r.Receipts == nil {
		t.Errorf("a small model: %+v %v", r, err)
	}
	for _, rq := range []AskRequest{{}, {Query: "\xff", Messages: chat}, {Query: "x", To: "xx", Messages: chat}} {
		if _, err := New(m, false).Ask(t.Context(), &rq, nil); err == nil {
			t.Errorf("%+v: taken", rq)
		}
	}
}
