// Package serverlink is the app's end of the conversation with the AdV-Server: one TLS connection and one stream per
// session of an insured person, opened when the session needs the server and closed with the session (A_15110,
// AdV-A_2449). There is no reconnecting and no resumption: what is lost ends the session (A_15116, A_16395).
//
// The link moves messages and knows their order; it judges no card command. The session passes every command through
// its filter before the card sees it.
package serverlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"ktradv/hw/apdu"
	"ktradv/internal/redact"
	"ktradv/server/api"
)

// Errors of a link, found with errors.Is.
var (
	// ErrUnreachable: no connection to the server within the time allowed.
	ErrUnreachable = errors.New("server unreachable")
	// ErrNotTrusted: the server's certificate is not in the terminal's trust store (AdV-A_2418).
	ErrNotTrusted = errors.New("server certificate not trusted")
	// ErrLost: the connection ended in the middle of the conversation.
	ErrLost = errors.New("server connection lost")
	// ErrProtocol: the server sent what the contract does not allow.
	ErrProtocol = errors.New("server broke the protocol")
)

// Refused is the server's own word that the session cannot go on.
type Refused struct {
	Code api.FailureCode
	SW   uint16 // the card's status word where the card refused
}

func (e *Refused) Error() string { return fmt.Sprintf("server refused: %v (card %04X)", e.Code, e.SW) }

// Config says how to reach the server.
type Config struct {
	// Address is host:port of the AdV-Server.
	Address string
	// TLS is the client's policy with the pinned trust store (internal/tlspolicy).
	TLS *tls.Config
	// ConnectTimeout bounds connecting and the TLS handshake. Zero means 8 s.
	ConnectTimeout time.Duration
	// AnswerTimeout bounds the wait for each message of the server. Zero means 20 s.
	AnswerTimeout time.Duration
	// DialNet opens the TCP connection; nil means net.Dialer.
	DialNet func(ctx context.Context, network, address string) (net.Conn, error)
}

// Link is one open conversation. Its methods are called by one goroutine; Close may be called by any.
type Link struct {
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[api.AppMessage, api.ServerMessage]
	cancel context.CancelFunc
	wait   time.Duration

	trips   int
	pending *api.Responses // answers to the last batch, sent together with the certificate to check
	checked bool           // the server has said its last word: the card is unlocked and its certificate checked
	quiet   atomic.Bool    // the stream is in order and no exchange is under way
	hear    sync.Once
	gone    chan struct{} // closed when the stream has ended or brought what nobody asked for
	once    sync.Once
}

// closeWait is how long a server in order may take to end its side of the stream.
const closeWait = 300 * time.Millisecond

// Dial connects, checks the server's certificate and opens the stream.
func Dial(ctx context.Context, cfg Config) (*Link, error) {
	if cfg.TLS == nil {
		return nil, fmt.Errorf("dial %s: no TLS policy", cfg.Address)
	}
	connectTimeout, answerTimeout := cfg.ConnectTimeout, cfg.AnswerTimeout
	if connectTimeout == 0 {
		connectTimeout = 8 * time.Second
	}
	if answerTimeout == 0 {
		answerTimeout = 20 * time.Second
	}
	secured, err := dialTLS(ctx, cfg, connectTimeout)
	if err != nil {
		return nil, err
	}
	// The connection is already secured and its server checked; gRPC gets exactly this one and no second.
	taken := false
	var mu sync.Mutex
	conn, err := grpc.NewClient("passthrough:///adv-server",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(api.MaxMessageBytes), grpc.MaxCallSendMsgSize(api.MaxMessageBytes)),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if taken {
				return nil, ErrLost
			}
			taken = true
			return secured, nil
		}))
	if err != nil {
		secured.Close()
		return nil, fmt.Errorf("dial %s: %w", cfg.Address, err)
	}
	// The stream lives as long as the session, not as long as the call that opened it.
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := api.NewAdVClient(conn).Session(sctx)
	if err != nil {
		cancel()
		conn.Close()
		secured.Close()
		return nil, fmt.Errorf("open session stream: %w: %w", ErrLost, err)
	}
	l := &Link{conn: conn, stream: stream, cancel: cancel, wait: answerTimeout, gone: make(chan struct{})}
	l.quiet.Store(true)
	return l, nil
}

func dialTLS(ctx context.Context, cfg Config, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dial := cfg.DialNet
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	raw, err := dial(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w: %w", cfg.Address, ErrUnreachable, err)
	}
	tc := cfg.TLS.Clone()
	tc.NextProtos = []string{"h2"}
	if tc.ServerName == "" {
		host, _, err := net.SplitHostPort(cfg.Address)
		if err != nil {
			raw.Close()
			return nil, fmt.Errorf("server address %q: %w", cfg.Address, err)
		}
		tc.ServerName = host
	}
	c := tls.Client(raw, tc)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		kind := ErrNotTrusted
		if broken(err) {
			kind = ErrUnreachable
		}
		return nil, fmt.Errorf("tls handshake with %s: %w: %w", cfg.Address, kind, err)
	}
	return c, nil
}

// broken tells that a handshake failed because the network did: too late, cut, or reset. Everything else is the server's
// doing.
func broken(err error) bool {
	var late net.Error
	var system syscall.Errno
	return errors.As(err, &late) && late.Timeout() || errors.As(err, &system) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// Start is what the app tells the server of the card: nothing else of the insured person leaves the terminal before
// the certificate check (AdV-A_2534, A_15111).
type Start struct {
	OperationID string
	IK          string
	AppVersion  string
	AUTCVC      []byte // C.eGK.AUT_CVC.E256
	CACVC       []byte // C.CA_eGK.CS.E256
	G2          bool   // generation G2; otherwise G2.1 or newer
}

// Command is one command of the server and the status words with which its batch goes on.
type Command struct {
	APDU     apdu.Command
	Expected []uint16
}

// Actor is who unlocks the card, for the protocol entry on an eGK G2.
type Actor struct {
	Name  string
	ICCSN redact.ICCSN // of the insurer's SM-B, not of a person
}

// Validity is the server's result of the certificate check.
type Validity struct {
	MathValid, TimeValid bool
	Online               api.OnlineStatus
}

// Run executes a batch on the card, in order, and stops at the first answer that is not expected.
type Run func(ctx context.Context, batch []Command) ([]apdu.Response, error)

// Unlock has the server unlock the eGK: it hands every batch to run until the card accepted the server's role
// (A_15112 to A_15115). The last answer is kept and travels with [Link.CheckCertificate].
func (l *Link) Unlock(ctx context.Context, s Start, run Run) (Actor, error) {
	generation := api.Generation_GENERATION_G2_1
	if s.G2 {
		generation = api.Generation_GENERATION_G2
	}
	msg := &api.AppMessage{Body: &api.AppMessage_Start{Start: &api.Start{
		OperationId: s.OperationID, Ik: s.IK, AppVersion: s.AppVersion, CvcEgkAut: s.AUTCVC, CvcEgkCa: s.CACVC, Generation: generation,
	}}}
	for step := api.Step_STEP_CHANNEL_OPEN; ; step++ {
		answer, err := l.exchange(ctx, msg)
		if err != nil {
			return Actor{}, err
		}
		cmds := answer.GetCommands()
		if cmds == nil || cmds.Step != step {
			return Actor{}, fmt.Errorf("%w: expected the commands of %v", ErrProtocol, step)
		}
		batch, err := readBatch(cmds)
		if err != nil {
			return Actor{}, err
		}
		rs, err := run(ctx, batch)
		if err != nil {
			return Actor{}, err
		}
		responses := &api.Responses{}
		for _, r := range rs {
			responses.Apdu = append(responses.Apdu, r.Bytes())
		}
		complete := len(rs) == len(batch) && batch[len(batch)-1].Expects(rs[len(rs)-1])
		if step == api.Step_STEP_ROLE_AUTHENTICATE && complete {
			actor, err := readActor(cmds.Actor)
			if err != nil {
				return Actor{}, err
			}
			l.pending = responses
			return actor, nil
		}
		msg = &api.AppMessage{Body: &api.AppMessage_Responses{Responses: responses}}
		if !complete {
			// The card refused: the server learns it and says what that means.
			answer, err := l.exchange(ctx, msg)
			if err != nil {
				return Actor{}, err
			}
			return Actor{}, fmt.Errorf("%w: the card refused and the server went on with %T", ErrProtocol, answer.Body)
		}
	}
}

// CheckCertificate sends C.CH.AUTN for the validity check (PL_TUC_EGK_STATUS) together with the last answer of the
// card. Without a certificate the server gets the answer alone.
func (l *Link) CheckCertificate(ctx context.Context, autn []byte) (Validity, error) {
	if l.pending == nil {
		return Validity{}, fmt.Errorf("check certificate: the card is not unlocked")
	}
	if len(autn) > 0 {
		l.pending.CertificateCheck = &api.CertificateCheck{CertAutn: autn}
	}
	msg := &api.AppMessage{Body: &api.AppMessage_Responses{Responses: l.pending}}
	l.pending = nil
	answer, err := l.exchange(ctx, msg)
	if err != nil {
		return Validity{}, err
	}
	u := answer.GetUnlocked()
	if u == nil || u.Certificate == nil {
		return Validity{}, fmt.Errorf("%w: expected the result of the certificate check", ErrProtocol)
	}
	l.checked = true
	l.listen()
	return Validity{MathValid: u.Certificate.MathValid, TimeValid: u.Certificate.TimeValid, Online: u.Certificate.Online}, nil
}

// listen has the end of a stream on which the server has nothing left to say close gone.
func (l *Link) listen() {
	l.hear.Do(func() {
		go func() {
			_ = l.stream.RecvMsg(new(api.ServerMessage))
			close(l.gone)
		}()
	})
}

// Gone is closed when the server ends the conversation, or the connection breaks, after the certificate was checked: then
// nobody vouches for the session any more, and it ends. Before that every method says so itself. [Link.Close] may close it,
// too.
func (l *Link) Gone() <-chan struct{} { return l.gone }

// RoundTrips is the number of app-server-app round trips so far.
func (l *Link) RoundTrips() int { return l.trips }

// Abort tells the server why the app gives up before the conversation is over; then or on a broken stream it does nothing.
// Errors do not matter: the link is closed next.
func (l *Link) Abort(code api.AbortCode) {
	if l.quiet.Load() && !l.checked {
		_ = l.stream.Send(&api.AppMessage{Body: &api.AppMessage_Abort{Abort: &api.Abort{Code: code}}})
	}
}

// Close ends the stream, in order where the server plays its part, and the TLS connection (AdV-A_2449).
func (l *Link) Close() error {
	var err error
	l.once.Do(func() {
		if l.quiet.Swap(false) && l.stream.CloseSend() == nil {
			l.listen()
			timer := time.NewTimer(closeWait)
			defer timer.Stop()
			select {
			case <-l.gone:
			case <-timer.C:
			}
		}
		l.cancel()
		err = l.conn.Close()
	})
	return err
}

// exchange sends one message and waits for the one that answers it.
func (l *Link) exchange(ctx context.Context, msg *api.AppMessage) (*api.ServerMessage, error) {
	l.quiet.Store(false)
	type result struct {
		m   *api.ServerMessage
		err error
	}
	ch := make(chan result, 1)
	go func() {
		if err := l.stream.Send(msg); err != nil && !errors.Is(err, io.EOF) {
			ch <- result{nil, err}
			return
		}
		m, err := l.stream.Recv()
		ch <- result{m, err}
	}()
	l.trips++
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		l.Close()
		return nil, context.Cause(ctx)
	case <-timer.C:
		l.Close()
		return nil, fmt.Errorf("%w: no answer within %v", ErrLost, l.wait)
	case r := <-ch:
		if r.err != nil {
			if status.Code(r.err) == codes.ResourceExhausted {
				return nil, fmt.Errorf("%w: %w", ErrProtocol, r.err)
			}
			return nil, fmt.Errorf("%w: %w", ErrLost, r.err)
		}
		if err := api.CheckServerMessage(r.m); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if f := r.m.GetFailure(); f != nil {
			return nil, &Refused{Code: f.Code, SW: uint16(f.Sw)}
		}
		l.quiet.Store(true)
		return r.m, nil
	}
}

func readBatch(c *api.Commands) ([]Command, error) {
	batch := make([]Command, 0, len(c.Command))
	for i, raw := range c.Command {
		cmd, err := apdu.Parse(raw.Apdu)
		if err != nil {
			return nil, fmt.Errorf("%w: command %d: %w", ErrProtocol, i, err)
		}
		one := Command{APDU: cmd}
		for _, sw := range raw.ExpectedSw {
			one.Expected = append(one.Expected, uint16(sw))
		}
		batch = append(batch, one)
	}
	return batch, nil
}

// Expects reports whether the batch goes on after r.
func (c Command) Expects(r apdu.Response) bool { return slices.Contains(c.Expected, r.SW) }

func readActor(a *api.Actor) (Actor, error) {
	n, err := redact.NewICCSN(a.Iccsn)
	if err != nil {
		return Actor{}, fmt.Errorf("%w: actor: %w", ErrProtocol, err)
	}
	return Actor{Name: a.Name, ICCSN: n}, nil
}
