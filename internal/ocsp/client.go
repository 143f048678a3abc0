package ocsp

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"ktradv/internal/x509ti"
)

// DefaultTimeout is how long one query may take (gemSpec_Systemprozesse_dezTI TIP1-A_6992-01).
const DefaultTimeout = 10 * time.Second

// Doer sends a request; *http.Client is one. It must not follow redirects to places the caller does not want asked.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Client asks a responder. The zero value asks the address in the certificate with the standard HTTP client and accepts
// only responders issued by the certificate's CA. It is safe for concurrent use when its fields are not changed.
type Client struct {
	HTTP           Doer                                                                          // nil is http.DefaultClient
	Clock          func() time.Time                                                              // nil is time.Now
	Timeout        time.Duration                                                                 // zero is DefaultTimeout
	URL            string                                                                        // address of the responder; "" takes the one in the certificate
	Responders     []*x509ti.Certificate                                                         // trusted by name
	Tolerance      time.Duration                                                                 // zero is Tolerance
	ListedOnly     bool                                                                          // see Check
	Listed         func(signer *x509ti.Certificate, producedAt time.Time) (listed, refused bool) // see Check
	IgnoreCertHash bool                                                                          // see Check
	Reference      time.Time                                                                     // see Check
	Verifier       x509ti.Verifier                                                               // see Check
	Header         http.Header                                                                   // added to each request, for example the key of a forwarder
	Nonce          bool                                                                          // send one; responders for health cards need not know it
	RequireNonce   bool                                                                          // see Check
	Rand           io.Reader                                                                     // source of the nonce; nil is crypto/rand
}

// Check asks about cert, which issuer issued, and returns the status when the answer passes every check of
// [Response.Verify]. Beside the findings listed there: ServiceSupplyPointMissing without an address, NotAvailable when
// the responder does not answer in time or does not answer with OCSP, StatusError when it declines.
func (c *Client) Check(ctx context.Context, cert, issuer *x509ti.Certificate) (Result, error) {
	result, _, err := c.Ask(ctx, cert, issuer)
	return result, err
}

// Ask is Check that also returns the answer as it came, for an archive; nil when there was none.
func (c *Client) Ask(ctx context.Context, cert, issuer *x509ti.Certificate) (result Result, raw []byte, err error) {
	request, err := NewRequest(cert, issuer)
	if err != nil {
		return Result{}, nil, err
	}
	if c.Nonce {
		nonce := make([]byte, 16)
		source := c.Rand
		if source == nil {
			source = rand.Reader
		}
		if _, err := io.ReadFull(source, nonce); err != nil {
			return Result{}, nil, fmt.Errorf("%w: nonce: %w", CheckRevocationError, err)
		}
		if err := request.SetNonce(nonce); err != nil {
			return Result{}, nil, err
		}
	}
	address, err := c.address(cert)
	if err != nil {
		return Result{}, nil, err
	}
	der, err := request.DER()
	if err != nil {
		return Result{}, nil, err
	}
	body, err := c.post(ctx, address, der)
	if err != nil {
		return Result{}, nil, err
	}
	response, err := ParseResponse(body)
	if err != nil {
		return Result{}, body, err
	}
	clock := c.Clock
	if clock == nil {
		clock = time.Now
	}
	result, err = response.Verify(Check{
		Certificate: cert, Issuer: issuer, Responders: c.Responders, Now: clock(), Tolerance: c.Tolerance,
		Nonce: request.nonce, RequireNonce: c.RequireNonce, ListedOnly: c.ListedOnly, Listed: c.Listed, IgnoreCertHash: c.IgnoreCertHash, Reference: c.Reference, Verifier: c.Verifier,
	})
	return result, body, err
}

// address returns the responder's address: absolute, http or https.
func (c *Client) address(cert *x509ti.Certificate) (string, error) {
	address := c.URL
	if address == "" {
		if len(cert.OCSPURLs) == 0 {
			return "", ServiceSupplyPointMissing
		}
		address = cert.OCSPURLs[0]
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", because(ServiceSupplyPointMissing, "the address is not http or https")
	}
	return address, nil
}

func (c *Client) post(ctx context.Context, address string, der []byte) ([]byte, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(der))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", NotAvailable, err)
	}
	for name, values := range c.Header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	doer := c.HTTP
	if doer == nil {
		doer = http.DefaultClient
	}
	resp, err := doer.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", NotAvailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: HTTP status %d", NotAvailable, resp.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/ocsp-response" {
		return nil, fmt.Errorf("%w: the answer is no OCSP response", NotAvailable)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", NotAvailable, err)
	}
	if len(body) > MaxSize {
		return nil, fmt.Errorf("%w: %w", CheckRevocationError, ErrMalformed)
	}
	return body, nil
}
