package dcap

import (
	"encoding/json"
	"testing"
)

// FuzzStatements evaluates statements of any form: they are signed by a
// vendor, but a vendor may err.
func FuzzStatements(f *testing.F) {
	f.Add([]byte(`{"id":"TDX","version":3,"tdxModule":{"mrsigner":"00","attributes":"00","attributesMask":""},"tcbLevels":[{"tcb":{"sgxtcbcomponents":[{"svn":1}],"pcesvn":1,"tdxtcbcomponents":[]},"tcbStatus":"UpToDate"}]}`), byte(0), byte(1))
	f.Add([]byte(`{"tdxModuleIdentities":[{"id":"TDX_01","tcbLevels":[{"tcb":{"isvsvn":1},"tcbStatus":"UpToDate"}]}]}`), byte(1), byte(1))
	f.Add([]byte(`{"miscselect":"00","mrsigner":"","tcbLevels":[]}`), byte(1), byte(0))
	f.Fuzz(func(t *testing.T, doc []byte, version, svn byte) {
		var info tcbInfo
		if json.Unmarshal(doc, &info) == nil {
			status, err := info.guest([16]byte{svn, version}, &TDReport{}, &Processor{}, &Appraisal{})
			if err == nil && !status.published() {
				t.Fatalf("status %q", status)
			}
			info.platform(&Processor{}, nil, &Appraisal{})
		}
		var id enclaveIdentity
		if json.Unmarshal(doc, &id) == nil {
			if a := (&Appraisal{}); id.appraise(&EnclaveReport{}, a) == nil && !a.QE.published() {
				t.Fatalf("status %q", a.QE)
			}
		}
	})
}
