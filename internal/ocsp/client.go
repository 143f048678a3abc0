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
	HTTP           Doer                  // nil is http.DefaultClient
	Clock          func() time.Time      // nil is time.Now
	Timeout        time.Duration         // zero is DefaultTimeout
	URL            string                // address of the responder; "" takes the one in the certificate
	Responders     []*x509ti.Certificate // trusted by name
	Tolerance      time.Duration         // zero is Tolerance
	IgnoreCertHash bool                  // see Check
	Nonce          bool                  // send one; responders for health cards need not know it
	Rand           io.Reader             // source of the nonce; nil is crypto/rand
}

// Check asks about cert, which issuer issued, and returns the status when the answer passes every check of
// [Response.Verify]. Beside the findings listed there: ServiceSupplyPointMissing without an address, NotAvailable when
// the responder does not answer in time or does not answer with OCSP, StatusError when it declines.
func (c *Client) Check(ctx context.Context, cert, issuer *x509ti.Certificate) (Result, error) {
	request, err := NewRequest(cert, issuer)
	if err != nil {
		return Result{}, err
	}
	if c.Nonce {
		nonce := make([]byte, 16)
		source := c.Rand
		if source == nil {
			source = rand.Reader
		}
		if _, err := io.ReadFull(source, nonce); err != nil {
			return Result{}, fmt.Errorf("%w: nonce: %w", CheckRevocationError, err)
		}
		if err := request.SetNonce(nonce); err != nil {
			return Result{}, err
		}
	}
	address, err := c.address(cert)
	if err != nil {
		return Result{}, err
	}
	der, err := request.DER()
	if err != nil {
		return Result{}, err
	}
	body, err := c.post(ctx, address, der)
	if err != nil {
		return Result{}, err
	}
	response, err := ParseResponse(body)
	if err != nil {
		return Result{}, err
	}
	clock := c.Clock
	if clock == nil {
		clock = time.Now
	}
	return response.Verify(Check{
		Certificate: cert, Issuer: issuer, Responders: c.Responders, Now: clock(), Tolerance: c.Tolerance,
		Nonce: request.nonce, IgnoreCertHash: c.IgnoreCertHash,
	})
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
