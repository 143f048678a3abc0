// Package consumer is the consumer adapter of the AdV-Server: the one place from which services of the central telematics
// infrastructure are called (AdV-A_2509). The app never calls them itself (AdV-A_2510, AdV-A_2511); it asks the server.
//
// Now: I_OCSP_Status_Information ([Adapter.Status], TAB_AdV_301). What is sent and accepted is decided by internal/ocsp;
// this package adds how it is reached and what is logged: each request stands in flow and performance log with the
// operation id of the person's touch that caused it.
package consumer

import (
	"context"
	"errors"
	"time"

	"ktradv/internal/advlog"
	"ktradv/internal/ocsp"
	"ktradv/internal/x509ti"
)

// Config says how the services are reached.
type Config struct {
	// OCSPURL is the responder's address; empty means the one in the checked certificate.
	OCSPURL string
	// OCSPTimeout for one request; zero means ocsp.DefaultTimeout.
	OCSPTimeout time.Duration
	// Responders are OCSP responder certificates trusted by name, beside those that the checked certificate's CA issued.
	Responders []*x509ti.Certificate
	// HTTP sends requests; nil means [ocsp.NewHTTPClient]: no redirects, no proxy, bounded.
	HTTP ocsp.Doer
	// Clock is the time; nil means time.Now.
	Clock func() time.Time
	// Log takes flow and performance entries; nil is off.
	Log *advlog.Log
	// Observe is called after each request with what came of it ("good", "revoked", "unknown" or "failed"); nil is
	// allowed.
	Observe func(outcome string, took time.Duration)
}

// Adapter calls the services. It is safe for concurrent use.
type Adapter struct {
	cfg    Config
	client ocsp.Client
}

// New makes an Adapter.
func New(cfg Config) *Adapter {
	if cfg.HTTP == nil {
		cfg.HTTP = ocsp.NewHTTPClient()
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, time.Duration) {}
	}
	return &Adapter{cfg: cfg, client: ocsp.Client{
		HTTP: cfg.HTTP, Clock: cfg.Clock, Timeout: cfg.OCSPTimeout, URL: cfg.OCSPURL, Responders: cfg.Responders,
		// Health card certificates are not qualified: certHash is not enforced for them (gemSpec_PKI).
		IgnoreCertHash: true,
	}}
}

// Forget closes idle connections to the services, whose buffers hold the last request and answer.
func (a *Adapter) Forget() {
	if c, ok := a.cfg.HTTP.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Status asks for the revocation status of cert, which issuer issued. The caller has checked cert's signature before:
// the responder's address may come from the certificate.
func (a *Adapter) Status(ctx context.Context, cert, issuer *x509ti.Certificate) (ocsp.Status, error) {
	start := a.cfg.Clock()
	span := a.cfg.Log.Begin(ctx, advlog.L("ocsp.request"))
	result, err := a.client.Check(ctx, cert, issuer)
	outcome := "failed"
	if err == nil {
		switch result.Status {
		case ocsp.Good:
			outcome = "good"
		case ocsp.Revoked:
			outcome = "revoked"
		default:
			outcome = "unknown"
		}
	}
	a.cfg.Observe(outcome, a.cfg.Clock().Sub(start))
	status := advlog.Word("status", advlog.OneOf(outcome, "good", "revoked", "unknown", "failed"))
	if err != nil {
		finding := advlog.Int("finding", int64(Finding(err)))
		span.End(advlog.ResultFailed, CodeOCSP, status, finding)
		return ocsp.Unknown, err
	}
	span.End(advlog.ResultOK, advlog.Code{}, status)
	return result.Status, nil
}

// CodeOCSP is the error of a status request that brought no usable answer.
var CodeOCSP = advlog.NewCode(11001, "no usable answer of the OCSP responder")

// Finding is the number of gemSpec_PKI Tab_PKI_274 in err, or 0.
func Finding(err error) int {
	var e *x509ti.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
