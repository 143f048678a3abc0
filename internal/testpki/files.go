package testpki

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ktradv/internal/brainpool"
)

// stateFile holds the authorities with their keys; "issued" and "revoked" beside it hold the register.
const stateFile = "testpki.json"

type savedAuthority struct {
	Key         []byte `json:"key,omitempty"` // scalar on brainpoolP256r1
	RSA         []byte `json:"rsa,omitempty"` // PKCS #1
	CHR         []byte `json:"chr,omitempty"`
	Certificate []byte `json:"certificate"`
}

type savedState struct {
	Now      time.Time                 `json:"now"`
	OCSPURL  string                    `json:"ocsp_url"`
	CVC      map[string]savedAuthority `json:"cvc"`
	X509     map[string]savedAuthority `json:"x509"`
	TLSCA    []byte                    `json:"tls_ca"`
	TLSCAKey []byte                    `json:"tls_ca_key"`
}

func (p *PKI) cvcAuthorities() map[string]*CVCAuthority {
	return map[string]*CVCAuthority{"root": &p.Root, "foreign-root": &p.ForeignRoot, "card-ca": &p.CardCA, "foreign-ca": &p.ForeignCA, "ktradv-ca": &p.KTRAdVCA}
}

func (p *PKI) x509Authorities() map[string]*X509Authority {
	return map[string]*X509Authority{"egk-ca": &p.EGKCA, "egk-rsa-ca": &p.EGKRSACA, "smb-ca": &p.SMBCA, "component-ca": &p.ComponentCA, "ocsp-signer": &p.OCSPSigner, "other-ocsp-signer": &p.OtherOCSPSigner, "rsa-ocsp-signer": &p.RSAOCSPSigner}
}

// Save writes the PKI to a folder, which it makes if needed (files 0600, folder 0700). From then on what the PKI issues
// and revokes is filed there too, so that another process that has the folder loaded can answer for it.
func (p *PKI) Save(dir string) error {
	state := savedState{Now: p.config.Now, OCSPURL: p.config.OCSPURL, CVC: map[string]savedAuthority{}, X509: map[string]savedAuthority{}, TLSCA: p.TLSCA, TLSCAKey: p.TLSCAKey}
	for name, a := range p.cvcAuthorities() {
		state.CVC[name] = savedAuthority{Key: a.Key.Bytes(), CHR: a.CHR[:], Certificate: a.Certificate}
	}
	for name, a := range p.x509Authorities() {
		saved := a.pair().saved()
		saved.Certificate = a.Certificate
		state.X509[name] = saved
	}
	raw, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("save test PKI: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dir = dir
	for name, der := range p.issued {
		if err := p.file("issued", name, der); err != nil {
			return fmt.Errorf("save test PKI: %w", err)
		}
	}
	for name := range p.revoked {
		if err := p.file("revoked", name, nil); err != nil {
			return fmt.Errorf("save test PKI: %w", err)
		}
	}
	// The state goes last: a folder that has it is complete.
	if err := writeFile(filepath.Join(dir, stateFile), raw); err != nil {
		return fmt.Errorf("save test PKI: %w", err)
	}
	return nil
}

// ErrNoPKI says that a folder holds no saved PKI.
var ErrNoPKI = errors.New("testpki: no PKI in this folder")

// Load reads a PKI from a folder. It returns ErrNoPKI when none was saved there. config.Rand counts; time and address
// come from the folder.
func Load(dir string, config Config) (*PKI, error) {
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load test PKI: %w", ErrNoPKI)
	}
	if err != nil {
		return nil, fmt.Errorf("load test PKI: %w", err)
	}
	var state savedState
	if err := json.Unmarshal(raw, &state); err != nil {
		return nil, fmt.Errorf("load test PKI: %w", err)
	}
	config.Now, config.OCSPURL, config.Rand = state.Now, state.OCSPURL, serialized(config.Rand)
	p := &PKI{config: config, dir: dir, issued: map[string][]byte{}, revoked: map[string]bool{}, TLSCA: state.TLSCA, TLSCAKey: state.TLSCAKey}
	for name, a := range p.cvcAuthorities() {
		saved := state.CVC[name]
		if a.Key, err = brainpool.NewPrivateKey(brainpool.P256r1(), saved.Key); err != nil || len(saved.CHR) != len(a.CHR) {
			return nil, fmt.Errorf("load test PKI: CVC authority %s is damaged", name)
		}
		copy(a.CHR[:], saved.CHR)
		a.Certificate = saved.Certificate
	}
	for name, a := range p.x509Authorities() {
		saved := state.X509[name]
		key, err := saved.pair()
		if err != nil {
			return nil, fmt.Errorf("load test PKI: authority %s: %w", name, err)
		}
		*a = X509Authority{Key: key.ec, RSA: key.rsa, Certificate: saved.Certificate}
	}
	return p, nil
}

// writeFile replaces a file in one step, so that a reader in another process never sees half of it.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
