package demo

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"ktradv/server/identity"
)

// Actor of the demo's insurer, as it stands in the access log of a card.
const (
	insurerName  = "Test GKV-SV"
	insurerICCSN = "80276003110000099999"
)

// writeIdentity issues the insurer's identity and leaves it where the server looks.
func (e *Env) writeIdentity() error {
	id, err := e.PKI.IssueKTRAdV(InsurerIK, insurerName, insurerICCSN)
	if err != nil {
		return fmt.Errorf("identity of the insurer: %w", err)
	}
	dir := filepath.Join(e.Dir, "identities")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identity of the insurer: %w", err)
	}
	return identity.WriteFile(dir, identity.File{
		IK: id.IK, Name: id.Name, ICCSN: id.ICCSN, CA: id.CACVC,
		Null: identity.KeyPair{Certificate: id.Null.Certificate, Key: id.Null.Key.Bytes()},
		AUTR: identity.KeyPair{Certificate: id.AUTR.Certificate, Key: id.AUTR.Key.Bytes()},
	})
}

// ServerAddr is the AdV-Server's address, which stays the same when it is started again.
func (e *Env) ServerAddr() string { return e.serverAddr }

// StopServer ends the AdV-Server; StartServer starts it again.
func (e *Env) StopServer() { e.stopServer() }

// StartServer starts the AdV-Server.
func (e *Env) StartServer(ctx context.Context) (err error) {
	if e.serverAddr == "" {
		if e.serverAddr, err = freeAddr(); err != nil { // by address: a bare machine may not even resolve localhost
			return fmt.Errorf("server address: %w", err)
		}
	}
	addr := e.serverAddr
	err = e.writeJSON("server.json", map[string]any{
		"mode": "test", "listen": addr, "ops_listen": "off",
		"tls":        map[string]any{"certificate": "tls/cert.pem", "key": "tls/key.pem"},
		"identities": map[string]any{"kind": "file", "dir": "identities"},
		"trust":      map[string]any{"cvc_roots": "trust/cvc", "egk_cas": "trust/egk-ca"},
		"log":        map[string]any{"dir": "server-log"},
	})
	if err != nil {
		return err
	}
	if e.ServerPID, e.stopServer, err = e.run("adv-server", "-config", filepath.Join(e.Dir, "server.json")); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-e.died:
			e.died <- err
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not listen on %s: %w", addr, err)
		}
	}
}
