package advserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"ktradv/internal/advlog"
	"ktradv/internal/tlspolicy"
	"ktradv/server/config"
	"ktradv/server/trust"
	"ktradv/server/verify"
)

// maxVerifyConnections bounds the connections of the verification service; its callers are a few programs of the insurer.
const maxVerifyConnections = 64

var codeLists = advlog.NewCode(11070, "trust list: something to be looked at; see the number of gemSpec_PKI Tab_PKI_274 in values")

// verifier is the service that checks E-Rezept billing records, on an address of its own.
type verifier struct {
	http    *http.Server
	ln      net.Listener
	updater *trust.Updater // nil without updates
}

// newVerifier opens what the configuration names and begins to listen; nil when the service is switched off.
func newVerifier(cfg config.Config, pair tls.Certificate, log *advlog.Log, registry prometheus.Registerer) (*verifier, error) {
	c := cfg.Verify
	if c.Listen == "off" {
		return nil, nil
	}
	clients, err := tlspolicy.LoadTrustStore(c.Clients, "")
	if err != nil {
		return nil, fmt.Errorf("clients of the verification service: %w", err)
	}
	o := verify.TrustOptions{Dir: c.PKI.Dir, Update: c.PKI.Update, TSLURL: c.PKI.TSLURL, Anchors: c.PKI.Anchors, TSLs: c.PKI.TSL, VLs: c.PKI.VL,
		Grace: time.Duration(c.PKI.Grace), MaxAge: time.Duration(c.PKI.Status.MaxAge), Archive: c.Archive, Test: cfg.Mode == config.Test, Certificates: c.PKI.Cache, TableBytes: c.PKI.TableBytes}
	st := c.PKI.Status
	o.Offline = st.Network == "off"
	o.Status = verify.StatusOptions{Network: st.Network, Rate: st.Rate, Forwarder: st.Forwarder, KeyFile: st.ForwarderKey, Header: st.ForwarderHeader,
		Target: st.ForwarderTarget, Timeout: time.Duration(st.Timeout), RequireNonce: st.RequireNonce, KeepAnswers: true, Metrics: registry}
	opened, err := o.Open(context.Background(), time.Now, func(e trust.Event) { reportTrust(log, e) })
	if err != nil {
		return nil, fmt.Errorf("trust of the verification service: %w", err)
	}
	service := verify.NewService(verify.ServiceConfig{Checker: opened.Checker, Checks: c.Checks, Jobs: c.Jobs, Archive: c.Archive, Metrics: verify.NewMetrics(registry)})
	v := &verifier{}
	if v.http, err = service.Server(pair, clients); err != nil {
		return nil, fmt.Errorf("verification service: %w", err)
	}
	v.http.ErrorLog = stdlog.New(refusals{log}, "", 0)
	if c.PKI.Update {
		v.updater = opened.Updater
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the verification service: %w", err)
	}
	v.ln = netutil.LimitListener(ln, maxVerifyConnections)
	return v, nil
}

// reportTrust makes an entry of something that the lists have to say: of a finding in the error log, of a change in the
// security log. The text of an event is not in it, because the log takes none; what the text says of a change is in values.
func reportTrust(log *advlog.Log, e trust.Event) {
	name := advlog.L("trust.update")
	values := []advlog.Value{advlog.Word("list", advlog.OneOf(string(e.Kind), "TSL", "BNetzA-VL"))}
	if e.Sequence != 0 {
		values = append(values, advlog.Int("sequence", int64(e.Sequence)))
	}
	if e.Anchor != nil {
		values = append(values, advlog.Authority(e.Anchor.Fingerprint()))
	}
	if e.What != "" {
		severity := advlog.Info
		if e.Anchor != nil {
			severity = advlog.Warning // whom this service trusts has changed
		}
		what := advlog.OneOf(string(e.What), "list-accepted", "trust-space-changed", "anchor-announced", "anchor-pinned", "anchor-removed", "file-passed-over")
		log.Security(context.Background(), advlog.SecurityEvent{Name: name, Severity: severity, Result: advlog.ResultOK,
			Values: append([]advlog.Value{advlog.Word("change", what)}, values...)})
	}
	if e.Code != 0 || e.What == "" {
		log.Error(context.Background(), advlog.ErrorEvent{Code: codeLists, Severity: advlog.Warning, Name: name,
			Values: append(values, advlog.Int("pki_code", int64(e.Code)))})
	}
}

// run serves until close; the lists are kept up to date until ctx ends.
func (v *verifier) run(ctx context.Context) error {
	if v.updater != nil {
		go v.updater.Run(ctx)
	}
	if err := v.http.ServeTLS(v.ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// stop lets checks that are running finish.
func (v *verifier) stop(ctx context.Context) {
	if v.http.Shutdown(ctx) != nil {
		v.http.Close()
	}
}

func (v *verifier) close() {
	v.http.Close()
	v.ln.Close()
}

// refusals turns what net/http has to say, refused handshakes above all, into entries of the security log. The text names
// addresses and is dropped.
type refusals struct{ log *advlog.Log }

var _ io.Writer = refusals{}

// Write implements io.Writer.
func (r refusals) Write(b []byte) (int, error) {
	r.log.Security(context.Background(), advlog.SecurityEvent{Name: advlog.L("verify.connection"), Severity: advlog.Warning,
		Result: advlog.ResultRefused, Code: codeTLS})
	return len(b), nil
}
