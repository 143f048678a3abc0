package trust

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

// Findings of updates.
var (
	InitError              = &x509ti.Error{Code: 1001, Name: "TSL_INIT_ERROR"}
	MultipleTrustAnchor    = &x509ti.Error{Code: 1003, Name: "MULTIPLE_TRUST_ANCHOR"}
	SigCertExtractionError = &x509ti.Error{Code: 1004, Name: "TSL_SIG_CERT_EXTRACTION_ERROR"}
	DownloadAddressError   = &x509ti.Error{Code: 1005, Name: "TSL_DOWNLOAD_ADDRESS_ERROR"}
	DownloadError          = &x509ti.Error{Code: 1006, Name: "TSL_DOWNLOAD_ERROR"}
	IDIncorrect            = &x509ti.Error{Code: 1007, Name: "TSL_ID_INCORRECT"}
	ValidityWarningInGrace = &x509ti.Error{Code: 1008, Name: "VALIDITY_WARNING_1"}
	ValidityWarningPast    = &x509ti.Error{Code: 1009, Name: "VALIDITY_WARNING_2"}
	VLUpdateError          = &x509ti.Error{Code: 1060, Name: "VL_UPDATE_ERROR"}
)

// ErrHeld says that a BNetzA-VL was not taken because it has nothing new: the archive holds it or a newer one, or it has run
// out and the archive has another. It stands beside VLUpdateError.
var ErrHeld = errors.New("the archive has a trusted list that stays in force")

// Defaults of updates.
const (
	DefaultInterval  = 24 * time.Hour
	DefaultTries     = 4 // at each address
	DefaultRetryWait = 10 * time.Second
	downloadTimeout  = 2 * time.Minute
	// firstRetry is how long after an update that failed the next one begins; every further failure doubles it, up to the
	// interval.
	firstRetry = 15 * time.Minute
)

// UpdaterConfig says how the trust space is kept up to date.
type UpdaterConfig struct {
	Archive *Archive
	// Anchors are the TSL signer CAs pinned by the operator (GS-A_4640). The archive remembers them: one that is new here
	// counts from now on, one that is gone here counts no more for new lists, and each such change is reported. One that an
	// announced anchor has replaced since (TUC_PKI_013) stays replaced. None: those that the archive remembers.
	Anchors []*x509ti.Certificate
	// Primary and Backup are download addresses of the TSL for the time before there is a list; afterwards its own pointers
	// count, unless Fixed is set.
	Primary, Backup string
	Fixed           bool
	// VL keeps the BNetzA-VL up to date, too. VLURLs are its addresses; none means those in the TSL.
	VL     bool
	VLURLs []string
	// Status of the TSL signer's certificate is asked for here; nil leaves this out (the offline flag of TUC_PKI_001), which
	// is reported as 1039.
	Status StatusSource

	HTTP       ocsp.Doer        // nil is ocsp.NewHTTPClient
	Clock      func() time.Time // nil is time.Now
	Grace      time.Duration    // see Config
	Interval   time.Duration    // 0 is DefaultInterval
	Tries      int              // 0 is DefaultTries
	RetryWait  time.Duration    // 0 is DefaultRetryWait
	Production bool             // refuses anchors and lists of the test PKI (GS-A_4727)
	Verifier   x509ti.Verifier
	// Report is told what happened: updates, and findings that do not stop one. nil is allowed.
	Report func(Event)
}

// Event is something that an update has to say.
type Event struct {
	Kind tsl.Kind
	Code int // Tab_PKI_274, 0: none
	Text string
	// What has changed, for a log that takes no text; "" is a finding.
	What     Change
	Sequence uint64              // of the list, where it is about one
	Anchor   *x509ti.Certificate // where it is about one
}

// Change is a kind of event.
type Change string

// The changes.
const (
	ListAccepted    Change = "list-accepted"
	SpaceChanged    Change = "trust-space-changed" // by cross certificate; the list was accepted with it
	AnchorAnnounced Change = "anchor-announced"
	AnchorPinned    Change = "anchor-pinned"
	AnchorRemoved   Change = "anchor-removed"
	FilePassedOver  Change = "file-passed-over" // reported by those who read files
)

// Updater keeps a trust space up to date (TUC_PKI_001, 013, 016, 017, 019 and 036).
type Updater struct {
	c     UpdaterConfig
	mu    sync.Mutex // one update at a time
	space atomic.Pointer[Space]
}

// NewUpdater makes an Updater over an archive and its first snapshot. InitError when there is neither an anchor in the
// configuration nor in the archive, ErrTestOnly when a production configuration is given one of the test PKI or both kinds
// are mixed.
func NewUpdater(c UpdaterConfig) (*Updater, error) {
	if c.HTTP == nil {
		c.HTTP = ocsp.NewHTTPClient()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Tries == 0 {
		c.Tries = DefaultTries
	}
	if c.RetryWait == 0 {
		c.RetryWait = DefaultRetryWait
	}
	if c.Report == nil {
		c.Report = func(Event) {}
	}
	u := &Updater{c: c}
	anchors, changes := reconcile(c.Archive.anchors(), c.Anchors, c.Clock())
	if len(anchors) == 0 {
		return nil, fmt.Errorf("%w: no trust anchor", InitError)
	}
	test := 0
	for _, stored := range anchors {
		a, err := x509ti.Parse(stored.Certificate)
		if err != nil {
			return nil, fmt.Errorf("%w: trust anchor: %w", InitError, err)
		}
		if !a.IsCA || a.KeyUsage&x509ti.CertSign == 0 {
			return nil, fmt.Errorf("%w: trust anchor is no CA", InitError)
		}
		if a.TestOnly() {
			test++
		}
	}
	if test > 0 && (c.Production || test < len(anchors)) {
		return nil, fmt.Errorf("%w: trust anchors", ErrTestOnly)
	}
	if len(anchors) != len(c.Archive.anchors()) || len(changes) > 0 {
		if err := c.Archive.add(nil, anchors, c.Clock()); err != nil {
			return nil, fmt.Errorf("%w: %w", InitError, err)
		}
	}
	for _, e := range changes {
		c.Report(e)
	}
	u.refresh()
	return u, nil
}

// Space returns the snapshot of now.
func (u *Updater) Space() *Space { return u.space.Load() }

func (u *Updater) refresh() { u.space.Store(u.c.Archive.space(u.c.Grace, u.c.Clock)) }

func (u *Updater) report(kind tsl.Kind, err error) {
	u.c.Report(Event{Kind: kind, Code: codeOf(err), Text: err.Error()})
}

// Run updates now and then every interval until ctx ends, sooner after an update that failed. Findings go to Report.
func (u *Updater) Run(ctx context.Context) {
	retry := firstRetry
	for {
		failed := false
		attempt := func(kind tsl.Kind, update func(context.Context) (bool, error)) {
			if _, err := update(ctx); err != nil && ctx.Err() == nil {
				failed = true
				u.report(kind, err)
			}
		}
		attempt(tsl.TSL, u.Update)
		if u.c.VL {
			attempt(tsl.VL, u.UpdateVL)
		}
		wait := u.c.Interval
		if failed {
			wait = min(wait, retry)
			retry = min(2*retry, u.c.Interval)
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// active returns the anchors in force at a time, and the one that was announced last when it is among them. An announced
// anchor takes the place of the ones before it from its time on.
func (u *Updater) active(at time.Time) (anchors []*x509ti.Certificate, address map[hash]string) {
	address = map[hash]string{}
	stored := u.c.Archive.anchors()
	for _, s := range stored {
		replaced := !s.Until.IsZero() && !at.Before(s.Until)
		if at.Before(s.From) || replaced {
			continue
		}
		if c, err := x509ti.Parse(s.Certificate); err == nil {
			anchors = append(anchors, c)
			address[c.Fingerprint()] = s.OCSP
		}
	}
	return anchors, address
}

// Update downloads the TSL and accepts it when it is new (TUC_PKI_001, 019). updated is false when there is nothing new.
func (u *Updater) Update(ctx context.Context) (updated bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	newest, have := u.c.Archive.newest(tsl.TSL)
	addresses, err := u.addresses(newest, have)
	if err != nil {
		return false, err
	}
	raw, err := u.download(ctx, addresses, newest.SHA256)
	if err != nil {
		return false, fmt.Errorf("%w: %w", DownloadError, err)
	}
	if raw == nil {
		u.age(newest)
		return false, nil
	}
	return u.accept(ctx, raw)
}

// age reports a newest list that has run out.
func (u *Updater) age(e archiveEntry) {
	switch now := u.c.Clock(); {
	case !now.Before(e.NextUpdate.Add(u.c.Grace)):
		u.report(tsl.TSL, ValidityWarningPast)
	case !now.Before(e.NextUpdate):
		u.report(tsl.TSL, ValidityWarningInGrace)
	}
}

// Accept takes a TSL that came by another way, such as a file at installation.
func (u *Updater) Accept(ctx context.Context, raw []byte) (updated bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.accept(ctx, raw)
}

func (u *Updater) addresses(newest archiveEntry, have bool) ([]string, error) {
	out := []string{u.c.Primary, u.c.Backup}
	if have && !u.c.Fixed {
		l, err := u.c.Archive.read(newest)
		if err != nil {
			return nil, err
		}
		out = []string{l.Location(tsl.TextPrimary), l.Location(tsl.TextBackup)}
	}
	var usable []string
	for _, a := range out {
		if strings.HasPrefix(a, "http://") || strings.HasPrefix(a, "https://") {
			usable = append(usable, a)
		}
	}
	if len(usable) == 0 {
		return nil, DownloadAddressError
	}
	return usable, nil
}

// download tries each address in turn. It returns nil when the hash file beside the list says that it is the known one.
func (u *Updater) download(ctx context.Context, addresses []string, known string) (raw []byte, err error) {
	if known != "" && strings.HasPrefix(addresses[0], "https://") { // nobody on the way may say that there is nothing new
		if sum, err := u.get(ctx, addresses[0]+".sha2", 1024); err == nil && strings.EqualFold(firstField(sum), known) {
			return nil, nil
		}
	}
	var last error
	for _, address := range addresses {
		for try := range u.c.Tries {
			if try > 0 {
				timer := time.NewTimer(u.c.RetryWait)
				select {
				case <-ctx.Done():
					timer.Stop()
					return nil, ctx.Err()
				case <-timer.C:
				}
			}
			raw, err := u.get(ctx, address, tsl.MaxSize)
			if err == nil {
				return raw, nil
			}
			last = errors.Join(last, err)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	return nil, last
}

// firstField returns the hash in a .sha2 file, which may name the file after it.
func firstField(b []byte) string {
	fields := strings.Fields(string(b))
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

func (u *Updater) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := u.c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("longer than %d octets", limit)
	}
	return body, nil
}

// accept runs TUC_PKI_019 and 001 on a list.
func (u *Updater) accept(ctx context.Context, raw []byte) (updated bool, err error) {
	now := u.c.Clock()
	l, err := tsl.Parse(raw)
	if err != nil {
		return false, err
	}
	if l.Kind != tsl.TSL {
		return false, fmt.Errorf("%w: it is a %s", tsl.SchemaNotValid, l.Kind)
	}
	newest, have := u.c.Archive.newest(tsl.TSL)
	switch {
	case !have:
	case l.ID == newest.ID && l.Sequence == newest.Sequence:
		u.age(newest)
		return false, nil
	case l.ID == newest.ID || l.Sequence <= newest.Sequence || l.Issued.Before(newest.Issued):
		return false, IDIncorrect
	}
	if err := u.fresh(l, now); err != nil {
		return false, err
	}
	anchors, addresses := u.active(now)
	anchor, err := l.Verify(now, anchors, u.c.Verifier)
	if err != nil {
		return false, err
	}
	signer, err := l.Signer()
	if err != nil {
		return false, err
	}
	if u.c.Production && signer.TestOnly() {
		return false, fmt.Errorf("%w: TSL", ErrTestOnly)
	}
	if err := u.signerStatus(ctx, signer, anchor, addresses[anchor.Fingerprint()], now, true); err != nil {
		return false, err
	}
	if err := u.c.Archive.add(l, u.announced(l, u.c.Archive.anchors(), now), now); err != nil {
		return false, err
	}
	u.refresh()
	u.c.Report(Event{Kind: tsl.TSL, What: ListAccepted, Sequence: l.Sequence, Text: fmt.Sprintf("TSL with sequence number %d accepted", l.Sequence)})
	return true, nil
}

// fresh refuses a list that has run out (1009) and reports one in its grace period (1008).
func (u *Updater) fresh(l *tsl.List, now time.Time) error {
	switch {
	case l.NextUpdate.IsZero() || !now.Before(l.NextUpdate.Add(u.c.Grace)):
		return ValidityWarningPast
	case !now.Before(l.NextUpdate):
		u.report(tsl.TSL, ValidityWarningInGrace)
	}
	return nil
}

// signerStatus asks for the status of the list's signer with the data of the old list only. listed: only the responders of
// that list count; else also one that the anchor issued, as before there is a list.
func (u *Updater) signerStatus(ctx context.Context, signer, anchor *x509ti.Certificate, address string, now time.Time, listed bool) error {
	if u.c.Status == nil {
		u.report(tsl.TSL, NoOCSPCheck)
		return nil
	}
	if address == "" && len(signer.OCSPURLs) > 0 {
		address = signer.OCSPURLs[0]
	}
	q := StatusQuery{
		Certificate: signer, Issuer: anchor, URL: address, Profile: x509ti.TSLSIG.Name, At: now, Now: now, Verifier: u.c.Verifier,
	}
	if old := u.Space(); len(old.tsls) > 0 {
		v, err := old.tsls[len(old.tsls)-1].load()
		if err != nil {
			return err
		}
		q.Responders, q.ListedOnly = v.current, listed
	}
	answer, err := u.c.Status.Status(ctx, q)
	switch {
	case err != nil:
		return fmt.Errorf("status of the TSL signer: %w", err)
	case answer.Status == ocsp.Revoked:
		return fmt.Errorf("status of the TSL signer: %w", CertRevoked)
	case answer.Status != ocsp.Good:
		return fmt.Errorf("status of the TSL signer: %w", CertUnknown)
	}
	return nil
}

// announced is TUC_PKI_013: exactly one entry TSLServiceCertChange announces the next anchor, which takes the place of the
// one in force at its StatusStartingTime. What is wrong here never makes the list invalid.
func (u *Updater) announced(l *tsl.List, anchors []storedAnchor, now time.Time) []storedAnchor {
	entries := l.Of(tsl.TypeCertChange)
	switch len(entries) {
	case 0:
		return anchors
	case 1:
	default:
		u.report(tsl.TSL, MultipleTrustAnchor)
		return anchors
	}
	e := entries[0]
	if len(e.Certificates) != 1 || e.Unreadable > 0 || !e.Authorises(x509ti.OIDTSLCCACert) {
		u.report(tsl.TSL, SigCertExtractionError)
		return anchors
	}
	next := e.Certificates[0]
	switch {
	case !next.IsCA || next.KeyUsage&x509ti.CertSign == 0:
		u.report(tsl.TSL, SigCertExtractionError.Because("the announced anchor is no CA"))
		return anchors
	case !next.ValidAt(e.Start):
		u.report(tsl.TSL, SigCertExtractionError.Because("the announced anchor is not valid at its start"))
		return anchors
	}
	start := e.Start
	if start.Before(now) {
		start = now // "with the next update at the latest": this list itself was signed below the old one
	}
	var out []storedAnchor
	for _, a := range anchors {
		c, err := x509ti.Parse(a.Certificate)
		switch {
		case err != nil:
			continue
		case c.TestOnly() != next.TestOnly():
			u.report(tsl.TSL, SigCertExtractionError.Because("the announced anchor is of the other PKI"))
			return anchors
		case c.Fingerprint() == next.Fingerprint() && a.Until.IsZero():
			return anchors // announced before, or in force
		case a.Origin == announced && a.From.After(now):
			continue // an announcement that this one replaces
		case a.open(now):
			a.Until = start
		}
		out = append(out, a)
	}
	u.c.Report(Event{Kind: tsl.TSL, What: AnchorAnnounced, Sequence: l.Sequence, Anchor: next,
		Text: "trust anchor announced, from " + start.UTC().Format(time.RFC3339) + ": " + nameOf(next)})
	return append(out, storedAnchor{Certificate: next.Raw, From: start, Origin: announced, OCSP: addressOf(e)})
}

// UpdateVL downloads the BNetzA-VL and accepts it when it is new (TUC_PKI_036). Whatever fails keeps the old one.
func (u *Updater) UpdateVL(ctx context.Context) (updated bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, addresses, err := u.Space().vlSource()
	if err != nil {
		return false, fmt.Errorf("%w: %w", VLUpdateError, err)
	}
	if len(u.c.VLURLs) > 0 {
		addresses = u.c.VLURLs
	}
	if len(addresses) == 0 {
		return false, fmt.Errorf("%w: no address", VLUpdateError)
	}
	newest, _ := u.c.Archive.newest(tsl.VL)
	raw, err := u.download(ctx, addresses, newest.SHA256)
	if err != nil {
		return false, fmt.Errorf("%w: %w", VLUpdateError, err)
	}
	if raw == nil {
		return false, nil
	}
	return u.acceptVL(raw)
}

// AcceptVL takes a BNetzA-VL that came by another way, such as a file at installation. A list that is older than that of the
// archive, or has run out while the archive has one, gives VLUpdateError with ErrHeld; that of the archive itself gives false
// and no error.
func (u *Updater) AcceptVL(raw []byte) (updated bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.acceptVL(raw)
}

func (u *Updater) acceptVL(raw []byte) (updated bool, err error) {
	signers, _, err := u.Space().vlSource()
	if err != nil {
		return false, fmt.Errorf("%w: %w", VLUpdateError, err)
	}
	newest, have := u.c.Archive.newest(tsl.VL)
	l, err := tsl.Parse(raw)
	if err != nil {
		return false, fmt.Errorf("%w: %w", VLUpdateError, err)
	}
	now := u.c.Clock()
	switch {
	case l.Kind != tsl.VL:
		return false, fmt.Errorf("%w: it is a %s", VLUpdateError, l.Kind)
	case have && hex.EncodeToString(l.Hash[:]) == newest.SHA256:
		return false, nil
	case have && (l.Sequence <= newest.Sequence || l.Issued.Before(newest.Issued)):
		return false, fmt.Errorf("%w: sequence number %d after %d: %w", VLUpdateError, l.Sequence, newest.Sequence, ErrHeld)
	case have && !l.NextUpdate.IsZero() && !now.Before(l.NextUpdate):
		return false, fmt.Errorf("%w: the list with sequence number %d has run out: %w", VLUpdateError, l.Sequence, ErrHeld)
	case l.NextUpdate.IsZero() || !now.Before(l.NextUpdate):
		return false, fmt.Errorf("%w: the list has run out", VLUpdateError)
	}
	if err := l.VerifyVL(now, signers, u.c.Verifier); err != nil {
		return false, fmt.Errorf("%w: %w", VLUpdateError, err)
	}
	if err := u.c.Archive.add(l, u.c.Archive.anchors(), now); err != nil {
		return false, fmt.Errorf("%w: %w", VLUpdateError, err)
	}
	u.refresh()
	u.c.Report(Event{Kind: tsl.VL, What: ListAccepted, Sequence: l.Sequence, Text: fmt.Sprintf("BNetzA-VL with sequence number %d accepted", l.Sequence)})
	return true, nil
}

// Backfill takes a TSL of former times into the archive, for records of its time: what an installation that begins today
// lacks. It is signed below one of the anchors given, at the time when it was issued, is older than the newest list and
// never takes its place; the anchors given are not trusted for anything else.
func (u *Updater) Backfill(raw []byte, anchors []*x509ti.Certificate) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	l, err := tsl.Parse(raw)
	if err != nil {
		return err
	}
	if u.c.Archive.holds(hex.EncodeToString(l.Hash[:])) {
		return nil
	}
	newest, have := u.c.Archive.newest(tsl.TSL)
	if l.Kind != tsl.TSL || !have || l.Sequence >= newest.Sequence || !l.Issued.Before(newest.Issued) {
		return fmt.Errorf("%w: not older than the newest list", IDIncorrect)
	}
	anchor, err := l.Verify(l.Issued, anchors, u.c.Verifier)
	if err != nil {
		return err
	}
	if u.c.Production && anchor.TestOnly() {
		return fmt.Errorf("%w: TSL", ErrTestOnly)
	}
	stored := u.c.Archive.anchors()
	known := false
	for _, s := range stored {
		known = known || string(s.Certificate) == string(anchor.Raw)
	}
	if !known { // never in force here: it ends where it begins
		stored = append(stored, storedAnchor{Certificate: anchor.Raw, From: anchor.NotBefore, Until: anchor.NotBefore, Origin: former})
	}
	if err := u.c.Archive.add(l, stored, u.c.Clock()); err != nil {
		return err
	}
	u.refresh()
	u.c.Report(Event{Kind: tsl.TSL, What: ListAccepted, Sequence: l.Sequence,
		Text: fmt.Sprintf("TSL of former times with sequence number %d accepted for records of its time", l.Sequence)})
	return nil
}
