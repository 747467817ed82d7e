package endorse

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/cocoon-network/cocoon/attest/sevsnp"
)

// Signer fetches the VCEK certificate of the machine that made an SEV-SNP
// report, as PEM, for guests whose host hands over none. Whether it is the
// right one is for those to say who verify the report.
func (s *Source) Signer(ctx context.Context, report []byte) ([]byte, error) {
	if s.cfg.Offline {
		return nil, fmt.Errorf("%w: offline, and the host hands over no certificate", ErrNotFound)
	}
	r, err := sevsnp.Parse(report)
	if err != nil {
		return nil, fmt.Errorf("endorse: %w", err)
	}
	if r.SigningKey() != sevsnp.SignerVCEK {
		return nil, fmt.Errorf("%w: the report is not signed by a VCEK, and only those are published", ErrNotFound)
	}
	product, err := r.Product()
	if err != nil {
		return nil, fmt.Errorf("endorse: %w", err)
	}
	t := sevsnp.DecodeTCB(r.ReportedTCB, product)
	hwid := r.ChipID[:]
	levels := fmt.Sprintf("blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", t.BootLoader, t.TEE, t.SNP, t.Microcode)
	if product == sevsnp.Turin {
		hwid = hwid[:8]
		levels = fmt.Sprintf("fmcSPL=%d&%s", t.FMC, levels)
	}
	der, _, err := s.get(ctx, s.cfg.KDS+"/vcek/v1/"+string(product.Root())+"/"+hex.EncodeToString(hwid)+"?"+levels)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if _, err := sevsnp.ParseSigner(text); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrAnswer, err)
	}
	return text, nil
}
