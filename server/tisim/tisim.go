// Package tisim simulates the services of the central telematics infrastructure that the AdV-Server uses, for tests and the
// demonstration. Now: the OCSP responder for health card certificates (RFC 6960 over HTTP POST). It answers with
// internal/testpki, which has an encoder of its own, so that what the product's reader accepts was not written by the
// product. No production binary links this package.
//
// What a responder can do wrong is switched on at run time with [Responder.SetFault]; what it says about a certificate with
// [Responder.SetStatus].
package tisim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"ktradv/internal/testpki"
)

// Fault is a way in which the responder fails.
type Fault int

// The faults. Zero is none.
const (
	None           Fault = iota
	Down                 // the connection is cut without an answer
	Slow                 // no answer until the client goes away
	HTTPError            // status 503
	WrongType            // the right answer as text/html
	Garbage              // octets that are no OCSP response
	Oversize             // an answer without end
	TryLater             // responseStatus tryLater
	Stale                // an answer made an hour ago
	Future               // an answer made in an hour
	Expired              // nextUpdate is over
	WrongSignature       // signature over something else
	WrongResponder       // signed by somebody else
	WrongCertHash        // certHash of another certificate
	OtherSerial          // an answer about another certificate
)

// pkiFaults are the faults that stand inside the response.
var pkiFaults = map[Fault]testpki.OCSPFault{
	TryLater: testpki.FaultTryLater, Stale: testpki.FaultStale, Future: testpki.FaultFuture, Expired: testpki.FaultExpired,
	WrongSignature: testpki.FaultSignature, WrongResponder: testpki.FaultRogueResponder,
	WrongCertHash: testpki.FaultCertHash, OtherSerial: testpki.FaultOtherSerial,
}

const (
	requestType  = "application/ocsp-request"
	responseType = "application/ocsp-response"
	maxRequest   = 16 << 10
	oversize     = 8 << 20
)

// Responder is an OCSP responder. It is an [http.Handler]; its methods may be called from several goroutines.
type Responder struct {
	pki   *testpki.PKI
	clock func() time.Time

	mu       sync.Mutex
	status   map[string]testpki.Status // by serial number, decimal
	fault    Fault
	requests int
}

var _ http.Handler = (*Responder)(nil)

// New makes a responder that knows the certificates of pki. A nil clock means time.Now.
func New(pki *testpki.PKI, clock func() time.Time) *Responder {
	if clock == nil {
		clock = time.Now
	}
	return &Responder{pki: pki, clock: clock, status: map[string]testpki.Status{}}
}

// SetStatus decides what the responder says about a serial number from now on, instead of what the PKI knows.
func (r *Responder) SetStatus(serial *big.Int, s testpki.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status[serial.String()] = s
}

// SetFault makes every later answer fail in that way; None ends it.
func (r *Responder) SetFault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Requests counts the requests that arrived.
func (r *Responder) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

func (r *Responder) statusOf(serial *big.Int) testpki.Status {
	r.mu.Lock()
	s, ok := r.status[serial.String()]
	r.mu.Unlock()
	if ok {
		return s
	}
	return r.pki.StatusOf(serial)
}

// ServeHTTP answers one request.
func (r *Responder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.requests++
	fault := r.fault
	r.mu.Unlock()

	switch fault {
	case Down:
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.Close()
		}
		return
	case Slow:
		// The body has to be read before the server notices that the client has gone.
		io.Copy(io.Discard, io.LimitReader(q.Body, maxRequest))
		<-q.Context().Done()
		return
	case HTTPError:
		http.Error(w, "out of service", http.StatusServiceUnavailable)
		return
	case Garbage:
		answer(w, []byte("\x30\x82\x01\x00 this is no OCSP response"))
		return
	case Oversize:
		answer(w, make([]byte, oversize))
		return
	}
	if q.Method != http.MethodPost || q.Header.Get("Content-Type") != requestType {
		http.Error(w, "want a POST of "+requestType, http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxRequest))
	if err != nil {
		http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
		return
	}
	var faults []testpki.OCSPFault
	if f, ok := pkiFaults[fault]; ok {
		faults = append(faults, f)
	}
	der, err := r.pki.OCSPResponse(body, r.statusOf, r.clock(), faults...)
	if err != nil {
		http.Error(w, "cannot answer", http.StatusInternalServerError)
		return
	}
	if fault == WrongType {
		w.Header().Set("Content-Type", "text/html")
		w.Write(der)
		return
	}
	answer(w, der)
}

func answer(w http.ResponseWriter, der []byte) {
	w.Header().Set("Content-Type", responseType)
	w.Header().Set("Content-Length", strconv.Itoa(len(der)))
	w.Write(der)
}

// Serve answers on l until ctx ends, and closes l.
func (r *Responder) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve OCSP responder: %w", err)
	}
	return nil
}
