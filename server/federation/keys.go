package federation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"ktradv/server/internal/keepfile"
	"ktradv/server/keystore"
)

// RotateBefore is how long before the end of its time a signing key gets a successor: long enough for the office's five
// working days and holidays.
const RotateBefore = 30 * 24 * time.Hour

// SigningKey is one key for Entity Statements.
type SigningKey struct {
	// Public is the key as it is published; its kid is also the name in the key store.
	Public jwk `json:"public"`
	// Created is when it was made. It signs until Created + MaxKeyAge.
	Created time.Time `json:"created"`
	// Deposited is when the Federation Master was seen to know it, zero before (A_24607).
	Deposited time.Time `json:"deposited,omitzero"`
}

// Ends is when the key must no longer sign (A_23185-01).
func (k SigningKey) Ends() time.Time { return k.Created.Add(MaxKeyAge) }

// Keys are the signing keys of the service, oldest first: what is published and which of them signs. The private keys are
// in the key store.
type Keys struct {
	path string
	list []SigningKey
}

const (
	keysFile    = "signing-keys.json"
	maxKeysFile = 1 << 20
)

// ErrNoKey is returned where no key may sign.
var ErrNoKey = errors.New("no signing key; next: `adv-server federation keys new`")

// LoadKeys reads the list in a folder; an empty one where there is none.
func LoadKeys(dir string) (*Keys, error) {
	k := &Keys{path: filepath.Join(dir, keysFile)}
	b, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	if len(b) > maxKeysFile {
		return nil, fmt.Errorf("signing keys: %s is longer than %d octets", k.path, maxKeysFile)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&k.list); err != nil {
		return nil, fmt.Errorf("signing keys: %s: %w", k.path, err)
	}
	for _, s := range k.list {
		if _, err := s.Public.public(); err != nil {
			return nil, fmt.Errorf("signing keys: %s: key %q: %w", k.path, s.Public.KID, err)
		}
	}
	return k, nil
}

func (k *Keys) save() error {
	b, err := json.MarshalIndent(k.list, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	return keepfile.Replace(k.path, append(b, '\n'), 0o600)
}

// New makes a key and adds it to what is published. The first one signs at once; a later one signs when the Federation
// Master knows it.
func (k *Keys) New(store keystore.Store, now time.Time) (SigningKey, error) {
	id, err := uuid.NewV7() // A_28208
	if err != nil {
		return SigningKey{}, fmt.Errorf("name of a key: %w", err)
	}
	signer, err := store.Create(id.String(), keystore.P256)
	if err != nil {
		return SigningKey{}, err
	}
	public, err := publicJWK(signer.Public(), id.String())
	if err != nil {
		return SigningKey{}, err
	}
	s := SigningKey{Public: public, Created: now.UTC().Truncate(time.Second)}
	k.list = append(k.list, s)
	return s, k.save()
}

// publicJWK is a public key for a key set.
func publicJWK(key crypto.PublicKey, kid string) (jwk, error) {
	p, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return jwk{}, fmt.Errorf("key %s: not an elliptic-curve key", kid)
	}
	b, err := p.Bytes()
	if err != nil || len(b) != 65 {
		return jwk{}, fmt.Errorf("key %s: not on P-256", kid)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return jwk{KTY: "EC", CRV: "P-256", Use: "sig", KID: kid, Alg: algorithm, X: enc(b[1:33]), Y: enc(b[33:])}, nil
}

// Published are the keys that stand in the statement: all that may still sign.
func (k *Keys) Published(now time.Time) []SigningKey {
	var out []SigningKey
	for _, s := range k.list {
		if now.Before(s.Ends()) {
			out = append(out, s)
		}
	}
	return out
}

// Current is the key that signs now: the newest one that the Federation Master has known for KeyNotice, else the first.
func (k *Keys) Current(now time.Time) (SigningKey, error) {
	alive := k.Published(now)
	if len(alive) == 0 {
		return SigningKey{}, ErrNoKey
	}
	best := alive[0]
	for _, s := range alive[1:] {
		if !s.Deposited.IsZero() && !now.Before(s.Deposited.Add(KeyNotice)) {
			best = s
		}
	}
	return best, nil
}

// Due says whether a successor has to be made: the newest key ends within RotateBefore.
func (k *Keys) Due(now time.Time) bool {
	return len(k.list) == 0 || !now.Before(k.list[len(k.list)-1].Ends().Add(-RotateBefore))
}

// Deposit notes that the Federation Master knows the keys with these kids.
func (k *Keys) Deposit(kids []string, now time.Time) error {
	changed := false
	for i := range k.list {
		for _, kid := range kids {
			if k.list[i].Public.KID == kid && k.list[i].Deposited.IsZero() {
				k.list[i].Deposited, changed = now.UTC().Truncate(time.Second), true
			}
		}
	}
	if !changed {
		return nil
	}
	return k.save()
}
