package dcap

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Status is Intel's word on how well patched a platform is.
type Status string

// The statuses. The two about relaunching are this verifier's conclusion, the
// others are published.
const (
	UpToDate                     Status = "UpToDate"
	SWHardeningNeeded            Status = "SWHardeningNeeded"
	ConfigurationNeeded          Status = "ConfigurationNeeded"
	ConfigurationAndSWHardening  Status = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                    Status = "OutOfDate"
	OutOfDateConfigurationNeeded Status = "OutOfDateConfigurationNeeded"
	Revoked                      Status = "Revoked"
	RelaunchAdvised              Status = "TDRelaunchAdvised"
	RelaunchAdvisedConfiguration Status = "TDRelaunchAdvisedConfigurationNeeded"
)

func (s Status) published() bool {
	return slices.Contains([]Status{UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardening, OutOfDate, OutOfDateConfigurationNeeded, Revoked}, s)
}

// merge is the worst of the platform's status and that of one of its parts (QE
// or module), which are only ever up to date, out of date or revoked.
func (s Status) merge(part Status) Status {
	switch {
	case part == Revoked || s == Revoked:
		return Revoked
	case part != OutOfDate:
		return s
	case s == ConfigurationNeeded || s == ConfigurationAndSWHardening || s == OutOfDateConfigurationNeeded:
		return OutOfDateConfigurationNeeded
	}
	return OutOfDate
}

// hexBytes is a hex string in JSON, either case.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := hex.DecodeString(s)
	*h = v
	return err
}

type dates struct {
	IssueDate  time.Time `json:"issueDate"`
	NextUpdate time.Time `json:"nextUpdate"`
	// TCBEvaluationDataNumber grows with each event that made Intel judge
	// platforms anew.
	TCBEvaluationDataNumber int `json:"tcbEvaluationDataNumber"`
}

type tcbInfo struct {
	ID      string   `json:"id"`
	Version int      `json:"version"`
	FMSPC   hexBytes `json:"fmspc"`
	PCEID   hexBytes `json:"pceId"`
	TCBType int      `json:"tcbType"`
	Dates   dates    `json:"-"`

	TDXModule  *moduleIdentity  `json:"tdxModule"`
	Identities []moduleIdentity `json:"tdxModuleIdentities"`
	Levels     []tcbLevel       `json:"tcbLevels"`
}

// UnmarshalJSON reads the dates, which share the object, beside the rest.
func (t *tcbInfo) UnmarshalJSON(b []byte) error {
	type plain tcbInfo
	return errors.Join(json.Unmarshal(b, (*plain)(t)), json.Unmarshal(b, &t.Dates))
}

type component struct {
	SVN uint8 `json:"svn"`
}

type tcbLevel struct {
	TCB struct {
		SGX    []component `json:"sgxtcbcomponents"`
		TDX    []component `json:"tdxtcbcomponents"`
		PCESVN uint16      `json:"pcesvn"`
	} `json:"tcb"`
	Status     Status   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs"`
}

type isvLevel struct {
	TCB struct {
		ISVSVN uint16 `json:"isvsvn"`
	} `json:"tcb"`
	Status     Status   `json:"tcbStatus"`
	Advisories []string `json:"advisoryIDs"`
}

type moduleIdentity struct {
	ID             string     `json:"id"`
	MRSigner       hexBytes   `json:"mrsigner"`
	Attributes     hexBytes   `json:"attributes"`
	AttributesMask hexBytes   `json:"attributesMask"`
	Levels         []isvLevel `json:"tcbLevels"`
}

type enclaveIdentity struct {
	ID             string     `json:"id"`
	Version        int        `json:"version"`
	MiscSelect     hexBytes   `json:"miscselect"`
	MiscSelectMask hexBytes   `json:"miscselectMask"`
	Attributes     hexBytes   `json:"attributes"`
	AttributesMask hexBytes   `json:"attributesMask"`
	MRSigner       hexBytes   `json:"mrsigner"`
	ISVProdID      uint16     `json:"isvprodid"`
	Levels         []isvLevel `json:"tcbLevels"`
	Dates          dates      `json:"-"`
}

// UnmarshalJSON reads the dates, which share the object, beside the rest.
func (e *enclaveIdentity) UnmarshalJSON(b []byte) error {
	type plain enclaveIdentity
	return errors.Join(json.Unmarshal(b, (*plain)(e)), json.Unmarshal(b, &e.Dates))
}

// The ways a platform fails its vendor's statements, one error each.
var (
	ErrTCBUnknown = errors.New("the platform is older than anything its vendor supports")
	ErrModule     = errors.New("the TDX module is not one the vendor knows")
	ErrQEIdentity = errors.New("the quoting enclave is not the vendor's")
)

// Appraisal is what collateral says about a quote.
type Appraisal struct {
	// Status is merged from platform, module and quoting enclave; the three
	// follow on their own. Module is empty for SGX and for modules without a
	// level of their own.
	Status               Status
	Platform, Module, QE Status
	Advisories           []string
	// EvaluationNumber is the lower of the two statements' numbers.
	EvaluationNumber int
	// Issued is when the older statement was made, Expires when the first of
	// all things it rests on runs out.
	Issued, Expires time.Time
	Processor       *Processor
}

// Appraise holds a quote, whose chain and signatures were verified before,
// against collateral.
func (q *Quote) Appraise(chain *Chain, c *Collateral, now time.Time) (*Appraisal, error) {
	v, err := c.verify(chain, now)
	if err != nil {
		return nil, err
	}
	p, err := ParseProcessor(chain.Leaf)
	if err != nil {
		return nil, err
	}
	if err := v.fits(q, p); err != nil {
		return nil, err
	}
	a := &Appraisal{
		Processor:        p,
		EvaluationNumber: min(v.tcb.Dates.TCBEvaluationDataNumber, v.qe.Dates.TCBEvaluationDataNumber),
		Issued:           v.issued,
		Expires:          v.expires,
	}
	if err := v.qe.appraise(&q.QEReport, a); err != nil {
		return nil, err
	}
	if q.TD == nil {
		a.Platform, err = v.tcb.platform(p, nil, a)
		a.Status = a.Platform.merge(a.QE)
		return a, err
	}
	status, err := v.tcb.guest(q.TD.TCBSVN, q.TD, p, a)
	if err != nil {
		return nil, err
	}
	// A guest that was launched before the module was updated keeps its old
	// number; started again it would be as good as the module is now.
	if q.TD15 != nil && (status == OutOfDate || status == OutOfDateConfigurationNeeded) {
		switch again, err := v.tcb.guest(q.TD15.TCBSVN2, q.TD, p, &Appraisal{}); {
		case err != nil:
		case again == UpToDate || again == SWHardeningNeeded:
			status = RelaunchAdvised
		case again == ConfigurationNeeded || again == ConfigurationAndSWHardening:
			status = RelaunchAdvisedConfiguration
		}
	}
	a.Status = status.merge(a.QE)
	return a, nil
}

// fits checks that the statements are about this kind of quote and platform.
func (v *verified) fits(q *Quote, p *Processor) error {
	wantTCB, wantQE := "SGX", "QE"
	if q.TD != nil {
		wantTCB, wantQE = "TDX", "TD_QE"
	}
	switch {
	case v.tcb.ID != wantTCB || v.tcb.Version != 3 || v.tcb.TCBType != 0:
		return fmt.Errorf("%w: TCB info %q, version %d, type %d", ErrCollateralMismatch, v.tcb.ID, v.tcb.Version, v.tcb.TCBType)
	case v.qe.ID != wantQE || v.qe.Version != 2:
		return fmt.Errorf("%w: QE identity %q, version %d", ErrCollateralMismatch, v.qe.ID, v.qe.Version)
	case string(v.tcb.FMSPC) != string(p.FMSPC[:]):
		return fmt.Errorf("%w: FMSPC %x, the platform's is %x", ErrCollateralMismatch, []byte(v.tcb.FMSPC), p.FMSPC)
	case string(v.tcb.PCEID) != string(p.PCEID[:]):
		return fmt.Errorf("%w: PCE id %x, the platform's is %x", ErrCollateralMismatch, []byte(v.tcb.PCEID), p.PCEID)
	}
	return nil
}

// guest is the merged status of platform and TDX module for one TEE TCB SVN.
func (t *tcbInfo) guest(svn [16]byte, td *TDReport, p *Processor, a *Appraisal) (Status, error) {
	var err error
	if a.Module, err = t.module(svn, td, a); err != nil {
		return "", err
	}
	if a.Platform, err = t.platform(p, &svn, a); err != nil {
		return "", err
	}
	return a.Platform.merge(a.Module), nil
}

// platform finds the first level that the processor and, for TDX, the module
// reach in all components. From module version 1 on, the first two components
// are the module's own and judged by its identity.
func (t *tcbInfo) platform(p *Processor, svn *[16]byte, a *Appraisal) (Status, error) {
	for _, l := range t.Levels {
		if len(l.TCB.SGX) != 16 || svn != nil && len(l.TCB.TDX) != 16 || !l.Status.published() {
			return "", fmt.Errorf("%w: a malformed TCB level", ErrCollateral)
		}
		if p.PCESVN < l.TCB.PCESVN || !reaches(p.TCB[:], l.TCB.SGX) {
			continue
		}
		if svn != nil {
			from := 0
			if svn[1] > 0 {
				from = 2
			}
			if !reaches(svn[from:], l.TCB.TDX[from:]) {
				continue
			}
		}
		a.Advisories = append(a.Advisories, l.Advisories...)
		return l.Status, nil
	}
	return "", ErrTCBUnknown
}

func reaches(have []byte, need []component) bool {
	for i, n := range need {
		if have[i] < n.SVN {
			return false
		}
	}
	return true
}

// module checks the TDX module's signer and attributes and finds its status;
// version 0 modules have no level of their own.
func (t *tcbInfo) module(svn [16]byte, td *TDReport, a *Appraisal) (Status, error) {
	id := t.TDXModule
	version := svn[1]
	if version > 0 {
		name := fmt.Sprintf("TDX_%02x", version)
		i := slices.IndexFunc(t.Identities, func(m moduleIdentity) bool { return strings.EqualFold(m.ID, name) })
		if i < 0 {
			return "", fmt.Errorf("%w: version %d", ErrModule, version)
		}
		id = &t.Identities[i]
	}
	if id == nil || len(id.Attributes) != 8 || len(id.AttributesMask) != 8 {
		return "", fmt.Errorf("%w: no identity of the TDX module", ErrCollateral)
	}
	if string(id.MRSigner) != string(td.MRSignerSEAM[:]) {
		return "", fmt.Errorf("%w: signed by %x", ErrModule, td.MRSignerSEAM)
	}
	mask := binary.LittleEndian.Uint64(id.AttributesMask)
	if td.SEAMAttributes&mask != binary.LittleEndian.Uint64(id.Attributes) {
		return "", fmt.Errorf("%w: attributes %016x", ErrModule, td.SEAMAttributes)
	}
	if version == 0 {
		return "", nil
	}
	return isvStatus(id.Levels, uint16(svn[0]), a)
}

// isvStatus finds the first level that svn reaches.
func isvStatus(levels []isvLevel, svn uint16, a *Appraisal) (Status, error) {
	for _, l := range levels {
		if !l.Status.published() {
			return "", fmt.Errorf("%w: a malformed TCB level", ErrCollateral)
		}
		if l.TCB.ISVSVN <= svn {
			a.Advisories = append(a.Advisories, l.Advisories...)
			return l.Status, nil
		}
	}
	return "", ErrTCBUnknown
}

// appraise checks that r is the vendor's quoting enclave and finds its status.
func (e *enclaveIdentity) appraise(r *EnclaveReport, a *Appraisal) (err error) {
	if len(e.MiscSelect) != 4 || len(e.MiscSelectMask) != 4 || len(e.Attributes) != 16 || len(e.AttributesMask) != 16 || len(e.MRSigner) != 32 {
		return fmt.Errorf("%w: QE identity", ErrCollateral)
	}
	mask := binary.LittleEndian.Uint32(e.MiscSelectMask)
	switch {
	case r.MiscSelect&mask != binary.LittleEndian.Uint32(e.MiscSelect):
		return fmt.Errorf("%w: MISCSELECT %08x", ErrQEIdentity, r.MiscSelect)
	case string(r.MRSigner[:]) != string(e.MRSigner):
		return fmt.Errorf("%w: signed by %x", ErrQEIdentity, r.MRSigner)
	case r.ISVProdID != e.ISVProdID:
		return fmt.Errorf("%w: product %d", ErrQEIdentity, r.ISVProdID)
	}
	for i, m := range e.AttributesMask {
		if r.Attributes[i]&m != e.Attributes[i] {
			return fmt.Errorf("%w: attributes %x", ErrQEIdentity, r.Attributes)
		}
	}
	a.QE, err = isvStatus(e.Levels, r.ISVSVN, a)
	return err
}
