package testpki

import (
	"fmt"
	"time"
)

// Service types, states and marks of the lists that BillingLists writes.
const (
	listCAPKC      = "http://uri.etsi.org/TrstSvc/Svctype/CA/PKC"
	listCAQC       = "http://uri.etsi.org/TrstSvc/Svctype/CA/QC"
	listOCSP       = "http://uri.etsi.org/TrstSvc/Svctype/Certstatus/OCSP"
	listVLSigner   = "http://uri.telematik/TrstSvc/Svctype/TrustedList/schemerules/DE"
	listInAccord   = "http://uri.etsi.org/TrstSvc/Svcstatus/inaccord"
	listRevoked    = "http://uri.etsi.org/TrstSvc/Svcstatus/revoked"
	listGranted    = "http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/granted"
	listWithdrawn  = "http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/withdrawn"
	listSignatures = "http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/ForeSignatures"
)

// ListOptions change the lists that BillingLists writes.
type ListOptions struct {
	Issued, NextUpdate time.Time // zero: ten days before the PKI's time, and thirty days later
	Responder          string    // address of the OCSP responder of every CA; "": one that does not exist

	SMCBRevoked   time.Time // not zero: the CA of institutions is revoked from then on
	QESWithdrawn  time.Time // not zero: the CA of qualified certificates is withdrawn from then on
	NotQualified  bool      // the CA of qualified certificates is not for signatures
	NotAuthorized bool      // the CA of institutions may not issue C.HCI.OSIG
	NoResponders  bool      // no OCSP signer is listed
}

// BillingLists are signed lists with the authorities of a billing PKI, as files.
type BillingLists struct {
	Anchor  []byte // certificate of the TSL signer CA, DER
	TSL, VL []byte // XML
}

// Lists writes a TSL and a trusted list of the Bundesnetzagentur for the authorities.
func (b *Billing) Lists(o ListOptions) (BillingLists, error) {
	p := b.pki
	if o.Issued.IsZero() {
		o.Issued = p.Now().UTC().Truncate(time.Second).AddDate(0, 0, -10)
	}
	if o.NextUpdate.IsZero() {
		o.NextUpdate = o.Issued.AddDate(0, 0, 30)
	}
	if o.Responder == "" {
		o.Responder = "http://ocsp.invalid/"
	}
	ca, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		return BillingLists{}, fmt.Errorf("billing lists: %w", err)
	}
	state := func(kind, status string) ListState {
		return ListState{Type: kind, Status: status, Start: p.years(-7)}
	}
	oid := func(n int) string { return fmt.Sprintf("1.2.276.0.76.4.%d", n) }
	authority := func(name string, cert []byte, types ...string) ListService {
		return ListService{ListState: state(listCAPKC, listInAccord), Name: name, Certificates: [][]byte{cert}, SupplyPoints: []string{o.Responder}, Extensions: types}
	}
	smcbTypes := []string{oid(76), oid(77), oid(78)}
	if o.NotAuthorized {
		smcbTypes = smcbTypes[:2]
	}
	smcb := authority("SMC-B CA", b.SMCBCA.Certificate, smcbTypes...)
	if !o.SMCBRevoked.IsZero() {
		smcb.Status, smcb.Start = listRevoked, o.SMCBRevoked
	}
	tsl := List{Sequence: 10001, Issued: o.Issued, NextUpdate: o.NextUpdate, Services: []ListService{
		smcb, authority("Component CA", b.ServiceCA.Certificate, oid(203), oid(283)),
		{ListState: state(listVLSigner, listInAccord), Name: "VL signer", Certificates: [][]byte{signer.Certificate}, SupplyPoints: []string{"http://vl.invalid/"}},
	}}
	if !o.NoResponders {
		for _, s := range []X509Authority{b.SMCBSigner, b.ServiceSigner} {
			tsl.Services = append(tsl.Services, ListService{ListState: state(listOCSP, listInAccord), Name: "OCSP signer",
				Certificates: [][]byte{s.Certificate}, SupplyPoints: []string{o.Responder}})
		}
	}
	qes := ListService{ListState: state(listCAQC, listGranted), Name: "QES CA", Certificates: [][]byte{b.QESCA.Certificate}, SupplyPoints: []string{o.Responder}}
	if !o.NotQualified {
		qes.Information = []string{listSignatures}
	}
	if !o.QESWithdrawn.IsZero() {
		qes.History = []ListState{qes.ListState}
		qes.Status, qes.Start = listWithdrawn, o.QESWithdrawn
	}
	vl := List{VL: true, Sequence: 1, Issued: o.Issued, NextUpdate: o.NextUpdate.AddDate(0, 5, 0), Services: []ListService{qes}}
	out := BillingLists{Anchor: ca.Certificate}
	if out.TSL, err = p.WriteList(tsl, signer); err != nil {
		return out, fmt.Errorf("billing lists: %w", err)
	}
	if out.VL, err = p.WriteList(vl, signer); err != nil {
		return out, fmt.Errorf("billing lists: %w", err)
	}
	return out, nil
}
