package federation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Doer sends an HTTP request. http.Client is one; it must not follow redirects (see NewClient).
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// NewClient returns a client for statements: bounded in time and header size, and a redirect is an answer, not followed.
func NewClient(transport *http.Transport) *http.Client {
	transport.MaxResponseHeaderBytes = 64 << 10 // certificates stand in headers
	return &http.Client{
		Transport: transport, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetched is an answer that was read; refusal is the body of one with another status than 200.
type fetched struct{ body, refusal []byte }

// fetch gets a document and judges how it came. A finding of Error means that body is not to be used.
func fetch(ctx context.Context, client Doer, header http.Header, address, contentType string) (fetched, Findings) {
	fail := func(code Code, what, fix string) (fetched, Findings) {
		return fetched{}, Findings{{Code: code, Severity: Error, Source: address, What: what, Fix: fix}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fail("ES-NETZ", err.Error(), "give a complete https address")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if contentType != "" {
		req.Header.Set("Accept", contentType)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail("ES-NETZ", "cannot be fetched: "+err.Error(), "check name, certificate, firewall and proxy (HTTPS_PROXY); from the internet the service must be reachable without any of yours")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxStatement+1))
	switch {
	case err != nil:
		return fail("ES-NETZ", "the answer broke off: "+err.Error(), "try again")
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fail("ES-HTTP", fmt.Sprintf("redirected (status %d) to %s", resp.StatusCode, bounded(resp.Header.Get("Location"))), "serve it at this address itself: no login and no other host in between")
	case resp.StatusCode != http.StatusOK:
		_, found := fail("ES-HTTP", fmt.Sprintf("status %d: %s", resp.StatusCode, bounded(string(body))), "it has to come with status 200")
		return fetched{refusal: body}, found
	case len(body) > MaxStatement:
		return fail("ES-HTTP", fmt.Sprintf("longer than %d octets", MaxStatement), "serve nothing else there")
	}
	var found Findings
	got := resp.Header.Get("Content-Type")
	if kind, _, err := mime.ParseMediaType(got); contentType != "" && (err != nil || kind != contentType) {
		found = Findings{{Code: "ES-CTYPE", Severity: Error, Source: address, Field: "Content-Type", What: fmt.Sprintf("the type is %q", bounded(got)), Fix: "serve it as " + contentType}}
	}
	return fetched{body: body}, found
}

// bounded makes a text from outside fit for a message.
func bounded(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)), " ")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "..."
	}
	return s
}

// FetchStatement gets and parses the statement of a service by its address, with or without WellKnown.
func FetchStatement(ctx context.Context, client Doer, header http.Header, service string) (*Statement, string, Findings) {
	address := strings.TrimSuffix(strings.TrimSuffix(service, WellKnown), "/") + WellKnown
	doc, found := fetch(ctx, client, header, address, ContentType)
	if doc.body == nil {
		return nil, address, found
	}
	s, more := ParseStatement(doc.body, address)
	return s, address, append(found, more...)
}

// endpoint makes the address of a request to the Federation Master. It must be of the Master's own origin.
func endpoint(master, address string, query url.Values) (string, error) {
	m, err := url.Parse(master)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	if u.Scheme != "https" || u.Host != m.Host || u.User != nil {
		return "", errors.New("it is not an https address of the Federation Master itself")
	}
	if query != nil {
		u.RawQuery = query.Encode()
	}
	return u.String(), nil
}
