package trust

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"ktradv/internal/x509ti"
)

// Bounds of what an archive has in memory.
const (
	// maxLoaded is how many lists are kept as read, a quarter of a megabyte each: more than a year of a list every day.
	maxLoaded = 512
	// retryRead is how long an error of reading a list stands before the list is read again.
	retryRead = time.Minute
)

// pool shares equal certificates among lists, as long as a list has them.
type pool struct {
	mu    sync.Mutex
	certs map[hash]weak.Pointer[x509ti.Certificate]
}

func newPool() *pool { return &pool{certs: map[hash]weak.Pointer[x509ti.Certificate]{}} }

func (p *pool) get(c *x509ti.Certificate) *x509ti.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := c.Fingerprint()
	if old := p.certs[key].Value(); old != nil {
		return old
	}
	p.certs[key] = weak.Make(c)
	runtime.AddCleanup(c, p.forget, key)
	return c
}

// forget drops a certificate that nobody has any more.
func (p *pool) forget(key hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.certs[key]; ok && w.Value() == nil {
		delete(p.certs, key)
	}
}

func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.certs)
}

// loadedViews are the lists in memory. What was not asked for lately is dropped first (second chance).
type loadedViews struct {
	mu    sync.Mutex
	limit int
	ring  []*lazyView
	hand  int
}

// keep puts a list that was just read among those in memory.
func (l *loadedViews) keep(v *lazyView) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < l.limit {
		l.ring = append(l.ring, v)
		return
	}
	for l.ring[l.hand].used.Swap(false) {
		l.hand = (l.hand + 1) % len(l.ring)
	}
	l.ring[l.hand].view.Store(nil)
	l.ring[l.hand] = v
	l.hand = (l.hand + 1) % len(l.ring)
}

// lazyView is a list that is read when it is asked for.
type lazyView struct {
	read   func() (*view, error)
	clock  func() time.Time
	loaded *loadedViews
	view   atomic.Pointer[view]
	used   atomic.Bool

	mu       sync.Mutex // one reader at a time
	err      error
	failedAt time.Time
}

// load returns the list, from memory when it is there. An error stands for a minute: what is wrong with a disk may pass.
func (l *lazyView) load() (*view, error) {
	if v := l.view.Load(); v != nil {
		if !l.used.Load() {
			l.used.Store(true)
		}
		return v, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.view.Load(); v != nil {
		return v, nil
	}
	if now := l.clock(); l.err != nil && now.Sub(l.failedAt).Abs() < retryRead {
		return nil, l.err
	}
	v, err := l.read()
	if err != nil {
		l.err, l.failedAt = err, l.clock()
		return nil, err
	}
	l.err = nil
	l.view.Store(v)
	l.loaded.keep(l)
	return v, nil
}
