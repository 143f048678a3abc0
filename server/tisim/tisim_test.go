package tisim

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"ktradv/internal/ocsp"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

func TestOnlyProperRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	pki, err := testpki.New(testpki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(New(pki, nil))
	defer srv.Close()
	card, err := pki.IssueEGK(testpki.EGK{ICCSN: "80276003110000000001", KVNR: "X000012345", IK: "109500969",
		InsurerName: "Test-GKV", GivenName: "Erika", Surname: "Mustermann"})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509ti.Parse(card.AUTN.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509ti.Parse(pki.EGKCA.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.NewRequest(cert, issuer)
	if err != nil {
		t.Fatal(err)
	}
	der, err := request.DER()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, method, kind string
		body               []byte
		want               int
	}{
		{"request", http.MethodPost, requestType, der, http.StatusOK},
		{"not OCSP", http.MethodPost, requestType, []byte("hello"), http.StatusOK}, // answered with malformedRequest
		{"GET", http.MethodGet, "", nil, http.StatusBadRequest},
		{"wrong type", http.MethodPost, "text/plain", der, http.StatusBadRequest},
		{"too large", http.MethodPost, requestType, make([]byte, maxRequest+1), http.StatusRequestEntityTooLarge},
	}
	for _, tt := range tests {
		q, err := http.NewRequestWithContext(t.Context(), tt.method, srv.URL, bytes.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", tt.kind)
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.want {
			t.Errorf("%s: status %d, %v; want %d", tt.name, resp.StatusCode, err, tt.want)
		}
		if tt.want == http.StatusOK && resp.Header.Get("Content-Type") != responseType {
			t.Errorf("%s: type %s, %d octets", tt.name, resp.Header.Get("Content-Type"), len(body))
		}
	}
}
