//go:build pkcs11

package keystore_test

import (
	"testing"
	"time"

	"ktradv/server/federation"
	"ktradv/server/internal/finding"
	"ktradv/server/keystore"
	"ktradv/server/trustcenter"
)

// TestTools: request and Entity Statement are signed by keys that never leave the HSM.
func TestTools(t *testing.T) {
	store, err := keystore.HSM{Module: "/usr/lib/softhsm/libsofthsm2.so", Token: "adv", PIN: func(bool) ([]byte, error) { return []byte("1234"), nil }}.Open()
	if err != nil {
		t.Fatal(err)
	}
	key, err := store.Create("trustcenter", keystore.RSA4096)
	if err != nil {
		t.Fatal(err)
	}
	sheet := trustcenter.Sheet{IK: "260326822", Organisation: "Muster Software GmbH", GivenName: "Erika", Surname: "Mustermann", TrustCenter: trustcenter.DKTIG}
	p10, err := trustcenter.CreateRequest(sheet, key)
	if err != nil {
		t.Fatal(err)
	}
	if found := trustcenter.CheckRequest(p10, &sheet); len(found) != 0 {
		t.Error(found)
	}
	keys, err := federation.LoadKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err := keys.New(store, now); err != nil {
		t.Fatal(err)
	}
	token, err := federation.Build(federation.Config{Environment: federation.TU, Service: "https://adv.kasse.example", Lifetime: federation.Duration(time.Hour)}, keys, store, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	s, found := federation.ParseStatement([]byte(token), "")
	if s == nil {
		t.Fatal(found)
	}
	for _, f := range federation.CheckStatement(s, federation.StatementOptions{Now: now}) {
		if f.Severity == finding.Error && f.Code == "ES-SIG" {
			t.Error(f)
		}
	}
}
