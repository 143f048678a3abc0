package proxy

import (
	"context"
	"errors"

	"ktradv/internal/advlog"
	"ktradv/internal/ocsp"
	"ktradv/internal/x509ti"
	"ktradv/server/api"
	"ktradv/server/consumer"
)

var (
	errNotGood = errors.New("certificate is revoked or unknown")
	errUnread  = errors.New("certificate could not be read from the card")
)

// checkCertificate judges C.CH.AUTN: signature and profile, period of validity, revocation (PL_TUC_EGK_STATUS, TIP1-A_6901,
// TIP1-A_6902). Each criterion has its own result; an invalid certificate does not end the session, and a responder that
// fails is tolerated. The revocation status is asked only for a certificate whose signature verifies, so that nobody can
// have the server ask an address of his choice.
//
// der is empty when the app could not read the certificate; then nothing is checked.
//
// A certificate of another insurer's card than the one the app stated is an error: the card would have been unlocked by the
// wrong insurer (AdV-A_2570).
func (c *conversation) checkCertificate(ctx context.Context, der []byte) (*api.CertificateResult, error) {
	p := c.proxy
	span := p.cfg.Log.Begin(ctx, nameCertificate)
	result := &api.CertificateResult{Online: api.OnlineStatus_ONLINE_STATUS_CHECK_FAILED}
	code := codeCertificate
	var cert *x509ti.Certificate
	err := errUnread
	if len(der) == 0 {
		code = codeUnread
	} else {
		cert, err = x509ti.Parse(der)
	}
	if err == nil {
		c.secrets = append(c.secrets, cert.Raw)
		if ik, err := cert.IK(); err == nil && ik != c.ik {
			span.End(advlog.ResultRefused, codeOtherIK)
			return nil, errOtherIK
		}
		var issuer *x509ti.Certificate
		if issuer, err = cert.FindIssuer(p.cfg.EGKCAs); err == nil {
			result.MathValid, result.TimeValid, err = x509ti.CheckEGKAUTN(cert, issuer, p.cfg.Clock())
		} else {
			result.TimeValid = cert.ValidAt(p.cfg.Clock())
		}
		if result.MathValid {
			var status ocsp.Status
			var oerr error
			status, oerr = p.cfg.Status.Status(ctx, cert, issuer)
			result.Online = online(status, oerr)
			if err == nil {
				switch {
				case oerr != nil:
					err, code = oerr, codeNoStatus
				case status != ocsp.Good:
					err, code = errNotGood, codeRevoked
				}
			}
		}
	}
	values := []advlog.Value{advlog.Flag("math_valid", result.MathValid), advlog.Flag("time_valid", result.TimeValid),
		advlog.Word("online", onlineNames[result.Online])}
	p.cfg.Metrics.certificates.WithLabelValues(onlineNames[result.Online].String()).Inc()
	if err == nil {
		span.End(advlog.ResultOK, advlog.Code{}, values...)
		return result, nil
	}
	e := advlog.ErrorEvent{Code: code, Severity: advlog.Warning, Type: advlog.Security, Name: nameCertificate, Part: partPKI,
		Result: advlog.ResultTolerated, Values: append(values, advlog.Int("finding", int64(consumer.Finding(err))))}
	if code == codeNoStatus {
		e.Type, e.Remote = advlog.Technical, true // the responder's fault, not the card's
	} else {
		e.ICCSN = c.iccsn
	}
	p.cfg.Log.Error(ctx, e)
	span.End(advlog.ResultTolerated, code, values...)
	return result, nil
}

var onlineNames = map[api.OnlineStatus]advlog.Label{
	api.OnlineStatus_ONLINE_STATUS_GOOD:         advlog.L("good"),
	api.OnlineStatus_ONLINE_STATUS_REVOKED:      advlog.L("revoked"),
	api.OnlineStatus_ONLINE_STATUS_UNKNOWN:      advlog.L("unknown"),
	api.OnlineStatus_ONLINE_STATUS_CHECK_FAILED: advlog.L("check_failed"),
}

func online(s ocsp.Status, err error) api.OnlineStatus {
	switch {
	case err != nil:
		return api.OnlineStatus_ONLINE_STATUS_CHECK_FAILED
	case s == ocsp.Good:
		return api.OnlineStatus_ONLINE_STATUS_GOOD
	case s == ocsp.Revoked:
		return api.OnlineStatus_ONLINE_STATUS_REVOKED
	default:
		return api.OnlineStatus_ONLINE_STATUS_UNKNOWN
	}
}
