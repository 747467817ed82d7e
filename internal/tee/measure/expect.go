package measure

import (
	"fmt"
	"strings"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
)

// Registers are a guest's measurements as far as they are known; nil where
// not. MRCONFIGID, MROWNER and MROWNERCONFIG are zero in the network's guests.
type Registers struct {
	MRTD *Register    `json:"mrtd"`
	RTMR [4]*Register `json:"rtmr"`
}

// ImageHash returns the image hash, which needs all registers.
func (r Registers) ImageHash() (attest.ImageHash, error) {
	var missing []string
	var zero Register
	m := make([]attest.Measurement, 0, 8)
	for _, x := range r.named() {
		if x.value == nil {
			missing = append(missing, x.name)
			continue
		}
		m = append(m, attest.Measurement{Name: x.name, Value: x.value[:]})
		if x.name == "MRTD" {
			for _, name := range []string{"MRCONFIGID", "MROWNER", "MROWNERCONFIG"} {
				m = append(m, attest.Measurement{Name: name, Value: zero[:]})
			}
		}
	}
	if len(missing) > 0 {
		return attest.ImageHash{}, fmt.Errorf("measure: the image hash needs %s too", strings.Join(missing, ", "))
	}
	return attest.TDXImageHash(m), nil
}

type named struct {
	name  string
	value *Register
}

func (r Registers) named() []named {
	list := []named{{"MRTD", r.MRTD}}
	for i, v := range r.RTMR {
		list = append(list, named{fmt.Sprintf("RTMR%d", i), v})
	}
	return list
}

// Reported reads what a guest says: a TDX quote, whose signatures are not
// looked at, or an event log. A log says nothing of MRTD, nor of RTMR3, which
// goes on with the attestation log.
func Reported(b []byte) (Registers, error) {
	var r Registers
	q, err := dcap.Parse(b)
	if err != nil || q.TD == nil {
		events, err := ParseEventLog(b)
		if err != nil {
			return r, fmt.Errorf("neither a TDX quote nor an event log (%w)", err)
		}
		replayed := ReplayEvents(events)
		for i := range 3 {
			r.RTMR[i] = &replayed[i]
		}
		return r, nil
	}
	if zero := (Register{}); q.TD.MRConfigID != zero || q.TD.MROwner != zero || q.TD.MROwnerConfig != zero {
		return r, inputError("a guest with MRCONFIGID, MROWNER or MROWNERCONFIG is none of the network's")
	}
	mrtd := Register(q.TD.MRTD)
	r.MRTD = &mrtd
	for i := range q.TD.RTMR {
		v := Register(q.TD.RTMR[i])
		r.RTMR[i] = &v
	}
	return r, nil
}

// Comparison is one register, expected and reported.
type Comparison struct {
	Name     string    `json:"name"`
	Expected *Register `json:"expected"`
	Reported *Register `json:"reported"`
	Result   Outcome   `json:"result"`
}

// Outcome of a comparison.
type Outcome string

// The outcomes. A register that one side does not know is not compared, and
// that is no match.
const (
	Match    Outcome = "match"
	Mismatch Outcome = "mismatch"
	Unknown  Outcome = "not compared"
)

// Compare holds reported registers against expected ones.
func Compare(expected, reported Registers) []Comparison {
	theirs := reported.named()
	var list []Comparison
	for i, e := range expected.named() {
		c := Comparison{Name: e.name, Expected: e.value, Reported: theirs[i].value, Result: Unknown}
		if c.Expected != nil && c.Reported != nil {
			c.Result = Mismatch
			if *c.Expected == *c.Reported {
				c.Result = Match
			}
		}
		list = append(list, c)
	}
	return list
}
