package appliance

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// TimeServer answers questions for the time (SNTP, RFC 4330), with a time that may be another than the real one.
type TimeServer struct {
	conn   net.PacketConn
	offset atomic.Int64
	mute   atomic.Bool
	told   atomic.Int64
}

// ServeTime starts a time server.
func ServeTime(addr string) (*TimeServer, error) {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("time server: %w", err)
	}
	s := &TimeServer{conn: c}
	go s.serve()
	return s, nil
}

// Addr is where it answers.
func (s *TimeServer) Addr() string { return s.conn.LocalAddr().String() }

// Mute makes it answer nothing.
func (s *TimeServer) Mute(on bool) { s.mute.Store(on) }

// Muted tells whether it answers nothing.
func (s *TimeServer) Muted() bool { return s.mute.Load() }

// Told is how often it has answered.
func (s *TimeServer) Told() int64 { return s.told.Load() }

// SetOffset makes it tell another time.
func (s *TimeServer) SetOffset(d time.Duration) { s.offset.Store(int64(d)) }

// Close ends it.
func (s *TimeServer) Close() error { return s.conn.Close() }

func (s *TimeServer) serve() {
	b := make([]byte, 512)
	for {
		n, from, err := s.conn.ReadFrom(b)
		if err != nil {
			return
		}
		const client = 3
		if n < 48 || b[0]&7 != client || s.mute.Load() {
			continue
		}
		now := time.Now().Add(time.Duration(s.offset.Load()))
		out := make([]byte, 48)
		out[0] = b[0]&0x38 | 4 // server, in the client's version
		out[1], out[2], out[3] = 1, b[2], 0xEC
		copy(out[12:], "TEST")
		ntp := func(at int) {
			const epoch = 2208988800 // of NTP, before that of Unix, in seconds
			binary.BigEndian.PutUint32(out[at:], uint32(now.Unix()+epoch))
			binary.BigEndian.PutUint32(out[at+4:], uint32(uint64(now.Nanosecond())<<32/1e9))
		}
		ntp(16)
		copy(out[24:32], b[40:48])
		ntp(32)
		ntp(40)
		if _, err := s.conn.WriteTo(out, from); err != nil {
			return
		}
		s.told.Add(1)
	}
}
