package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/node"
)

// A process that does not tell its money leaves the others' standing, and is
// named.
func TestStatusWithoutOnesMoney(t *testing.T) {
	role := func(money http.HandlerFunc) string {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /jsonstats", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
		mux.HandleFunc("GET /money", money)
		srv := httptest.NewServer(mux)
		t.Cleanup(srv.Close)
		return srv.URL
	}
	told := role(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"paid_nano":20,"kept_nano":1,"earned_nano":19,"pending_nano":0,"gas_nano":7}`)
	})
	broken := role(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the disk is full", http.StatusConflict) })
	s := &node.State{Children: []node.Child{{Name: "proxy", Role: "proxy", Status: told}, {Name: "client", Role: "client", Status: broken}}}
	r, err := readStatus(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Paid != 20 || r.Gas != 7 || !r.Incomplete || r.Children[0].Error != "" || !r.Children[1].Alive || !strings.Contains(r.Children[1].Error, "the disk is full") {
		t.Errorf("%+v", r)
	}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the disk is full", "too low"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
	starting := role(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"paid_nano":0,"kept_nano":0,"earned_nano":0,"pending_nano":0,"gas_nano":1,"missing":"its ledgers are not open yet","gas_missing":"the chain is slow"}`)
	})
	s.Children[1] = node.Child{Name: "proxy-2", Role: "proxy", Status: starting}
	if r, err = readStatus(t.Context(), s); err != nil || r.Paid != 20 || !r.Incomplete || !r.GasIncomplete || r.Children[1].MoneyMissing == "" {
		t.Errorf("%+v, %v", r, err)
	}
	out.Reset()
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"money: its ledgers are not open yet", "too low", "at least 0.000000008 GRAM; the newest"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
	s.Children = s.Children[:1]
	if r, err = readStatus(t.Context(), s); err != nil || r.Incomplete {
		t.Errorf("%+v, %v", r, err)
	}
}

// A proxy that runs without serving says why.
func TestStatusOfWaitingProxy(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"waiting":"the contract is closing"}`)
	}))
	defer srv.Close()
	r, err := readStatus(t.Context(), &node.State{Children: []node.Child{{Name: "proxy", Role: "proxy", Status: srv.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := r.print(&out); err != nil || !strings.Contains(out.String(), "waiting: the contract is closing") {
		t.Errorf("%v in\n%s", err, &out)
	}
}
