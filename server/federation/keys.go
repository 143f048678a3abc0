package federation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"

	"ktradv/server/internal/keepfile"
	"ktradv/server/keystore"
)

// RotateBefore is how long before the end of its time a signing key gets a successor: long enough for the office's five
// working days and holidays.
const RotateBefore = 30 * 24 * time.Hour

// rotateUrgent is how long before its end a key without a deposited successor is an error for the monitoring: the office needs
// five working days.
const rotateUrgent = 10 * 24 * time.Hour

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
	path       string
	what, mend string // in messages: what they are, and what to do about a damaged list
	list       []SigningKey
}

const (
	keysFile    = "signing-keys.json"
	maxKeysFile = 1 << 20
)

// ErrNoKey is returned where no key may sign.
var ErrNoKey = errors.New("no signing key; next: `adv-server federation keys new`")

// LoadKeys reads the list in a folder; an empty one where there is none.
func LoadKeys(dir string) (*Keys, error) {
	k := &Keys{path: filepath.Join(dir, keysFile), what: "signing keys", mend: "mend it, or bring it back from a backup: the private keys beside it are of no use without it"}
	return k, k.load()
}

func (k *Keys) load() error {
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		k.list = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.what, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeysFile+1))
	if err == nil {
		k.list, err = parseSigningKeys(b)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w; next: %s", k.what, k.path, err, k.mend)
	}
	return nil
}

// parseSigningKeys reads the list.
func parseSigningKeys(b []byte) ([]SigningKey, error) {
	if len(b) > maxKeysFile {
		return nil, fmt.Errorf("longer than %d octets", maxKeysFile)
	}
	var list []SigningKey
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the list")
	}
	for i, s := range list {
		if _, err := s.Public.public(); err != nil {
			return nil, fmt.Errorf("key %q: %w", s.Public.KID, err)
		}
		if s.Public.KID == "" || slices.ContainsFunc(list[:i], func(o SigningKey) bool { return o.Public.KID == s.Public.KID }) {
			return nil, fmt.Errorf("kid %q is empty or stands there twice", s.Public.KID)
		}
	}
	return list, nil
}

// update changes the list as it is on disk now: the service, the watch and the operator do so from processes of their own, and
// none may undo what another one did.
func (k *Keys) update(change func() error) error {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return fmt.Errorf("%s: %w", k.what, err)
	}
	lock, err := os.OpenFile(k.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", k.what, err)
	}
	defer lock.Close() // that unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("%s: lock: %w", k.what, err)
	}
	if err := k.load(); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return k.save()
}

func (k *Keys) save() error {
	b, err := json.MarshalIndent(k.list, "", "  ")
	if err != nil {
		return err
	}
	return keepfile.Replace(k.path, append(b, '\n'), 0o600)
}

// New makes a key and adds it to what is published. The first one signs at once; a later one signs when the Federation
// Master knows it.
func (k *Keys) New(store keystore.Store, now time.Time) (SigningKey, error) {
	var made SigningKey
	err := k.update(func() (err error) { made, err = k.add(store, now); return err })
	return made, err
}

// Rotate makes the successor of the signing key where one is due.
func (k *Keys) Rotate(store keystore.Store, now time.Time) error {
	if !k.Due(now) {
		return nil
	}
	return k.update(func() error {
		if !k.Due(now) { // another process was faster
			return nil
		}
		_, err := k.add(store, now)
		return err
	})
}

func (k *Keys) add(store keystore.Store, now time.Time) (SigningKey, error) {
	// The store has one passphrase, and the service asks for it once: a successor under another one would end the service on the
	// day when it has to sign. Opening the present key shows that it is the right one.
	if present, err := k.Current(now); err == nil {
		if _, err := store.Open(present.Public.KID); err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return SigningKey{}, fmt.Errorf("the present signing key: %w", err)
		}
	}
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
	return s, nil
}

// clientKeysFile lists the keys for ID tokens with the times when they were made: nothing else tells how long they are used.
const clientKeysFile = "client-keys.json"

// LoadClientKeys reads the list of the keys for ID tokens in a folder; an empty one where there is none.
func LoadClientKeys(dir string) (*Keys, error) {
	k := &Keys{path: filepath.Join(dir, clientKeysFile), what: "keys for ID tokens", mend: "mend it, bring it back from a backup, or remove it: it says no more than since when they are used"}
	return k, k.load()
}

// NoteClientKeys notes when the configured key for ID tokens was made, or seen first where the operator made it otherwise.
func NoteClientKeys(c Config, now time.Time) (*Keys, error) {
	keys, err := LoadClientKeys(c.Keys)
	if err != nil {
		return nil, err
	}
	published, err := ClientKeys(c)
	if err != nil {
		return nil, err
	}
	enc := published[0]
	if keys.holds(enc) {
		return keys, nil
	}
	return keys, keys.update(func() error {
		if !keys.holds(enc) {
			keys.list = append(keys.list, SigningKey{Public: enc, Created: now.UTC().Truncate(time.Second)})
		}
		return nil
	})
}

// watchClient warns of the age of the keys for ID tokens among those that are published (A_23185-01).
func (k *Keys) watchClient(published []jwk, now time.Time) (found Findings) {
	add := func(sev Severity, kid, what string) {
		found = append(found, Finding{Code: "ES-KEY-ALTER", Severity: sev, Field: kid, What: what, Fix: clientFix})
	}
	for _, j := range published {
		made, known := k.byValue(j)
		switch {
		case j.Use != "enc":
		case !known:
			found = append(found, Finding{Code: "ES-KEY-ALTER", Severity: Info, Field: j.KID, What: "when this key for ID tokens was made is not known here",
				Fix: "`adv-server federation entity-statement` notes the key that it publishes; one is used for at most 398 days (A_23185-01)"})
		case !now.Before(made.Ends()):
			add(Error, j.KID, "the key for ID tokens has been used for 398 days, since "+stamp(made.Created))
		case made.Ends().Sub(now) < RotateBefore:
			add(Warning, j.KID, "the key for ID tokens must not be used after "+stamp(made.Ends()))
		}
	}
	return found
}

// clientEnd is when the first of the published keys for ID tokens must not be used any more, zero where that is unknown.
func (k *Keys) clientEnd(published []jwk) (end time.Time) {
	for _, j := range published {
		made, known := k.byValue(j)
		if j.Use == "enc" && known && (end.IsZero() || made.Ends().Before(end)) {
			end = made.Ends()
		}
	}
	return end
}

// byValue returns the key of the list that is the same as a published one, whatever their names.
func (k *Keys) byValue(j jwk) (SigningKey, bool) {
	i := slices.IndexFunc(k.list, func(s SigningKey) bool { return s.Public.X == j.X && s.Public.Y == j.Y })
	if i < 0 {
		return SigningKey{}, false
	}
	return k.list[i], true
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

// Names are the names of the published keys in the key store.
func (k *Keys) Names(now time.Time) (names []string) {
	for _, s := range k.Published(now) {
		names = append(names, s.Public.KID)
	}
	return names
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

// holds says whether a published key is one of these, by name and by value.
func (k *Keys) holds(j jwk) bool {
	return k != nil && slices.ContainsFunc(k.list, func(s SigningKey) bool {
		return s.Public.KID == j.KID && s.Public.X == j.X && s.Public.Y == j.Y
	})
}

// Due says whether a successor has to be made: the newest key ends within RotateBefore.
func (k *Keys) Due(now time.Time) bool {
	return len(k.list) == 0 || !now.Before(k.list[len(k.list)-1].Ends().Add(-RotateBefore))
}

// Deposit notes that the Federation Master knows keys: those that a watch found it to publish.
func (k *Keys) Deposit(r Report, now time.Time) error {
	if !k.mark(r.known, now) {
		return nil
	}
	return k.update(func() error { k.mark(r.known, now); return nil })
}

// mark notes the keys in memory and says whether any is new. The name alone proves nothing: the key has to be the same.
func (k *Keys) mark(known []jwk, now time.Time) (changed bool) {
	for i := range k.list {
		s := &k.list[i]
		j, ok := keyByID(known, s.Public.KID)
		if ok && s.Deposited.IsZero() && j.X == s.Public.X && j.Y == s.Public.Y {
			s.Deposited, changed = now.UTC().Truncate(time.Second), true
		}
	}
	return changed
}
