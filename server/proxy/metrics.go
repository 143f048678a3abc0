package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the figures of a Proxy. No label has a value from outside.
type Metrics struct {
	active       prometheus.Gauge
	sessions     *prometheus.CounterVec   // by result
	failures     *prometheus.CounterVec   // by error code
	startSeconds prometheus.Histogram     // from connection to unlocked card
	stepSeconds  *prometheus.HistogramVec // from batch to answer, by step
	certificates *prometheus.CounterVec   // by revocation status
	ocspSeconds  *prometheus.HistogramVec // by outcome
}

// NewMetrics makes the figures and registers them; a nil registerer leaves them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	latency := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m := &Metrics{
		active: prometheus.NewGauge(prometheus.GaugeOpts{Name: "adv_sessions_active", Help: "Sessions that are running."}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "adv_sessions_total",
			Help: "Sessions that ended, by result."}, []string{"result"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "adv_session_failures_total",
			Help: "Sessions that failed, by error code."}, []string{"code"}),
		startSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "adv_session_start_seconds",
			Help: "Time from the first message to the unlocked card.", Buckets: latency}),
		stepSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "adv_card_batch_seconds",
			Help: "Time from a batch of card commands to its answer, by step.", Buckets: latency}, []string{"step"}),
		certificates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "adv_certificate_checks_total",
			Help: "Checks of C.CH.AUTN, by revocation status."}, []string{"online"}),
		ocspSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "adv_ocsp_seconds",
			Help: "Time of OCSP requests, by outcome.", Buckets: latency}, []string{"outcome"}),
	}
	if r != nil {
		r.MustRegister(m.active, m.sessions, m.failures, m.startSeconds, m.stepSeconds, m.certificates, m.ocspSeconds)
	}
	return m
}

// ObserveOCSP counts a request of the consumer adapter.
func (m *Metrics) ObserveOCSP(outcome string, took time.Duration) {
	m.ocspSeconds.WithLabelValues(outcome).Observe(took.Seconds())
}
