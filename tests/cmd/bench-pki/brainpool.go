package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"ktradv/internal/brainpool"
	"ktradv/tests/figures"
)

// comparison is one curve under its name in `openssl speed`.
type comparison struct {
	curve  *brainpool.Curve
	prefix string // of the figures
	speed  string // suffix of openssl's algorithms
	rounds int
	turn   time.Duration // how long each operation runs in each round; openssl's take a second
	goals  bool
}

func measureBrainpool(ctx context.Context, m *machine, set figures.Set) error {
	return m.pin(1, func() error {
		for _, c := range []comparison{
			{brainpool.P256r1(), "brainpool", "brp256r1", 4, time.Second, true},
			{brainpool.P384r1(), "brainpool.p384r1", "brp384r1", 2, time.Second, false},
			{brainpool.P512r1(), "brainpool.p512r1", "brp512r1", 2, time.Second, false},
		} {
			if err := c.measure(ctx, set); err != nil {
				return fmt.Errorf("%v: %w", c.curve, err)
			}
		}
		return nil
	})
}

// signed is a signature with what it takes to check it.
type signed struct {
	key    *brainpool.PublicKey
	digest []byte
	rs     []byte
}

// sample signs under so many keys.
func sample(c *brainpool.Curve, keys, perKey int) ([]signed, error) {
	var out []signed
	for i := range keys {
		key, err := brainpool.GenerateKey(c, nil)
		if err != nil {
			return nil, err
		}
		for j := range perKey {
			digest := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i*perKey+j)))
			rs, err := key.Sign(nil, digest[:])
			if err != nil {
				return nil, err
			}
			out = append(out, signed{key.Public(), digest[:], rs})
		}
	}
	return out, nil
}

var errRefused = errors.New("a good signature is refused")

// measure takes turns between openssl's operations and ours and adds the best rates and their ratios.
func (c comparison) measure(ctx context.Context, set figures.Set) error {
	// No key comes back soon enough for the branch predictor to know its signature, or is one of a few.
	many, err := sample(c.curve, 1000, 1)
	if err != nil {
		return err
	}
	few, err := sample(c.curve, 4, 250)
	if err != nil {
		return err
	}
	own, err := brainpool.GenerateKey(c.curve, nil)
	if err != nil {
		return err
	}
	var fewCache, manyCache brainpool.TableCache
	cached := func(cache *brainpool.TableCache, in []signed) func(int) error {
		return func(i int) error {
			s := &in[i%len(in)]
			if !cache.VerifyECDSA(s.key, s.digest, s.rs) {
				return errRefused
			}
			return nil
		}
	}
	ours := []struct {
		name string
		op   func(i int) error
	}{
		{"verify", func(i int) error {
			s := &many[i%len(many)]
			if !s.key.VerifyVartime(s.digest, s.rs) {
				return errRefused
			}
			return nil
		}},
		{"verify_cached", cached(&fewCache, few)},
		{"verify_cached_1000_keys", cached(&manyCache, many)},
		{"sign", func(i int) error { _, err := own.Sign(nil, many[i%len(many)].digest); return err }},
		{"ecdh", func(i int) error { _, err := own.ECDH(many[i%len(many)].key); return err }},
		{"build_table", func(i int) error {
			brainpool.PrecomputeVartime(many[i%len(many)].key, brainpool.SmallTable)
			return nil
		}},
	}
	// Every cached key has its table before the clock runs.
	for range 2 {
		for i := range max(len(many), len(few)) {
			if err := errors.Join(ours[1].op(i), ours[2].op(i), ours[2].op(i)); err != nil {
				return err
			}
		}
	}
	if s := manyCache.Stats(); s.Tables != len(many) {
		return fmt.Errorf("%d of %d keys have a table", s.Tables, len(many))
	}
	best := map[string]float64{}
	keep := func(name string, v float64) { best[name] = max(best[name], v) }
	for range c.rounds {
		theirs, err := opensslSpeed(ctx, c.speed)
		if err != nil {
			return err
		}
		for name, v := range theirs {
			keep("openssl_"+name, v)
		}
		for _, o := range ours {
			v, err := rate(c.turn, o.op)
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			keep(o.name, v)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	for name, v := range best {
		set.Add(c.prefix+"."+name+"_per_s", v, "1/s", "")
	}
	for _, r := range []struct{ name, ours, theirs, goal string }{
		{"verify_ratio_openssl", "verify", "openssl_verify", "2.5"},
		{"verify_cached_ratio_openssl", "verify_cached", "openssl_verify", "10"},
		{"sign_ratio_openssl", "sign", "openssl_sign", "1"},
		{"ecdh_ratio_openssl", "ecdh", "openssl_ecdh", "1"},
	} {
		if !c.goals {
			r.goal = ""
		}
		set.Add(c.prefix+"."+r.name, best[r.ours]/best[r.theirs], "ratio", r.goal)
	}
	set.Add(c.prefix+".table_bytes", float64(brainpool.PrecomputeVartime(many[0].key, brainpool.SmallTable).Bytes()), "bytes", "")
	return nil
}

// opensslSpeed runs openssl's own benchmark of the curve: operations per second of sign, verify and ecdh.
func opensslSpeed(ctx context.Context, curve string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, "openssl", "speed", "-mr", "-seconds", "1", "ecdsa"+curve, "ecdh"+curve)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, stderr.String())
	}
	return parseSpeed(out)
}

// parseSpeed reads openssl's machine-readable lines +F4 (ECDSA: sign, verify) and +F5 (ECDH), each with index, bits and
// operations per second.
func parseSpeed(out []byte) (map[string]float64, error) {
	rates := map[string]float64{}
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		f := strings.Split(sc.Text(), ":")
		var names []string
		switch f[0] {
		case "+F4":
			names = []string{"sign", "verify"}
		case "+F5":
			names = []string{"ecdh"}
		}
		for i, name := range names {
			if len(f) < 4+i {
				return nil, fmt.Errorf("line of openssl speed is too short: %q", sc.Text())
			}
			v, err := strconv.ParseFloat(f[3+i], 64)
			if err != nil || !(v > 1) {
				return nil, fmt.Errorf("rate of %s in %q: %w", name, sc.Text(), errors.Join(err, errors.New("not a rate")))
			}
			rates[name] = v
		}
	}
	if len(rates) != 3 {
		return nil, fmt.Errorf("openssl speed gave %v only", rates)
	}
	return rates, nil
}
