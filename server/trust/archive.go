package trust

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

// DefaultMaxLists bounds an archive: ten years of a list every day.
const DefaultMaxLists = 4000

// Archive keeps every accepted list on disk, and the trust anchors with their times, so that "was this CA valid when the
// record was signed" can be answered for years although the TSL has no history. Files are written in one step; each is held
// next to its SHA-256 and its signature whenever it is read. It is safe for concurrent use by one process.
type Archive struct {
	dir      string
	maxLists int

	mu     sync.Mutex
	index  archiveIndex
	shared *pool
	views  map[string]*listHandle // by SHA-256
	loaded *loadedViews
}

// archiveEntry describes a list in the archive.
type archiveEntry struct {
	Kind       tsl.Kind  `json:"kind"`
	ID         string    `json:"id"`
	Sequence   uint64    `json:"sequence"`
	SHA256     string    `json:"sha256"`
	Issued     time.Time `json:"issued"`
	NextUpdate time.Time `json:"next_update"`
	Accepted   time.Time `json:"accepted"`
	Signer     string    `json:"signer_sha256"`
}

func (e *archiveEntry) file() string {
	prefix := "tsl"
	if e.Kind == tsl.VL {
		prefix = "vl"
	}
	return fmt.Sprintf("%s-%020d-%s.xml.gz", prefix, e.Sequence, e.SHA256)
}

// indexVersion is the version of the index that is written. Version 0, without the field, is read, too.
const indexVersion = 1

type archiveIndex struct {
	Version int            `json:"version"`
	Entries []archiveEntry `json:"entries"`
	Anchors []storedAnchor `json:"anchors"`
}

// ErrArchive is wrapped by errors about an archive that is damaged.
var ErrArchive = errors.New("trust: archive of lists is damaged")

const indexFile = "index.json"

// OpenArchive opens or begins the archive in a folder. maxLists of each kind are kept (0 is DefaultMaxLists); what is beyond
// is dropped, the oldest first. ErrArchive when the index is not as it was written; the lists are looked at when they are needed.
func OpenArchive(dir string, maxLists int) (*Archive, error) {
	if maxLists <= 0 {
		maxLists = DefaultMaxLists
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open archive of lists: %w", err)
	}
	a := &Archive{dir: dir, maxLists: maxLists, shared: newPool(), views: map[string]*listHandle{}, loaded: &loadedViews{limit: maxLoaded}}
	raw, err := os.ReadFile(filepath.Join(dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open archive of lists: %w", err)
	}
	if err := a.readIndex(raw); err != nil {
		return nil, fmt.Errorf("open archive of lists: %w", err)
	}
	return a, nil
}

// readIndex takes the index: JSON in one line, and the SHA-256 of this line in the next.
func (a *Archive) readIndex(raw []byte) error {
	line, rest, ok := bytes.Cut(raw, []byte("\n"))
	sum := sha256.Sum256(line)
	if !ok || string(bytes.TrimSpace(rest)) != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%w: checksum of the index", ErrArchive)
	}
	if err := json.Unmarshal(line, &a.index); err != nil {
		return fmt.Errorf("%w: index: %w", ErrArchive, err)
	}
	switch a.index.Version {
	case 0:
		migrate(a.index.Anchors)
	case indexVersion:
	default:
		return fmt.Errorf("%w: the index has version %d, this program knows those up to %d", ErrArchive, a.index.Version, indexVersion)
	}
	return nil
}

func (a *Archive) writeIndex(index archiveIndex) error {
	index.Version = indexVersion
	line, err := json.Marshal(index)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(line)
	return replaceFile(filepath.Join(a.dir, indexFile), append(line, "\n"+hex.EncodeToString(sum[:])+"\n"...))
}

// add keeps a list, and the anchors as they are then; a list may be nil when only the anchors changed.
func (a *Archive) add(l *tsl.List, anchors []storedAnchor, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	index := archiveIndex{Entries: slices.Clone(a.index.Entries), Anchors: anchors}
	var dropped []archiveEntry
	if l != nil {
		signer, err := l.Signer()
		if err != nil {
			return err
		}
		fp := signer.Fingerprint()
		e := archiveEntry{
			Kind: l.Kind, ID: l.ID, Sequence: l.Sequence, SHA256: hex.EncodeToString(l.Hash[:]), Issued: l.Issued,
			NextUpdate: l.NextUpdate, Accepted: now, Signer: hex.EncodeToString(fp[:]),
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(l.Raw); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(a.dir, e.file()), packed.Bytes()); err != nil {
			return fmt.Errorf("keep list: %w", err)
		}
		index.Entries = append(index.Entries, e)
		slices.SortStableFunc(index.Entries, func(a, b archiveEntry) int { return a.Issued.Compare(b.Issued) })
		extra := -a.maxLists
		for _, old := range index.Entries {
			if old.Kind == e.Kind {
				extra++
			}
		}
		index.Entries = slices.DeleteFunc(index.Entries, func(old archiveEntry) bool {
			if old.Kind != e.Kind || extra <= 0 {
				return false
			}
			extra--
			dropped = append(dropped, old)
			return true
		})
	}
	if err := a.writeIndex(index); err != nil {
		return fmt.Errorf("keep list: %w", err)
	}
	a.index = index
	for _, e := range dropped {
		delete(a.views, e.SHA256)
		os.Remove(filepath.Join(a.dir, e.file())) // a file that stays is in no index: nobody reads it, and the new list counts
	}
	return nil
}

// newest returns the last list of a kind that was kept.
func (a *Archive) newest(kind tsl.Kind) (e archiveEntry, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := len(a.index.Entries) - 1; i >= 0; i-- {
		if a.index.Entries[i].Kind == kind {
			return a.index.Entries[i], true
		}
	}
	return e, false
}

// holds reports whether a list with that SHA-256 is in the archive.
func (a *Archive) holds(sum string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.index.Entries, func(e archiveEntry) bool { return e.SHA256 == sum })
}

func (a *Archive) anchors() []storedAnchor {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.index.Anchors)
}

// read returns a list of the archive after it has passed everything that it passed when it was accepted and that does not
// depend on the time: checksum, signature, and for a TSL its signer below one of the anchors.
func (a *Archive) read(e archiveEntry) (*tsl.List, error) {
	f, err := os.Open(filepath.Join(a.dir, e.file()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, e.file(), err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, tsl.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, e.file(), err)
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != e.SHA256 {
		return nil, fmt.Errorf("%w: %s: checksum", ErrArchive, e.file())
	}
	l, err := tsl.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, e.file(), err)
	}
	if l.Kind != e.Kind || l.Sequence != e.Sequence || l.ID != e.ID || !l.Issued.Equal(e.Issued) || !l.NextUpdate.Equal(e.NextUpdate) {
		return nil, fmt.Errorf("%w: %s: the index says otherwise", ErrArchive, e.file())
	}
	if err := l.VerifyXML(nil); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, e.file(), err)
	}
	signer, err := l.Signer()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, e.file(), err)
	}
	if fp := signer.Fingerprint(); hex.EncodeToString(fp[:]) != e.Signer {
		return nil, fmt.Errorf("%w: %s: signed by somebody else", ErrArchive, e.file())
	}
	if l.Kind == tsl.VL {
		return l, nil
	}
	for _, stored := range a.anchors() {
		anchor, err := x509ti.Parse(stored.Certificate)
		if err == nil && signer.CheckSignatureFrom(anchor) == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("%w: %s: below no anchor", ErrArchive, e.file())
}

// space makes the snapshot of what the archive holds now.
func (a *Archive) space(grace time.Duration, clock func() time.Time) *Space {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &Space{grace: grace, clock: clock}
	if s.clock == nil {
		s.clock = time.Now
	}
	for _, e := range a.index.Entries {
		h := a.views[e.SHA256]
		if h == nil {
			h = a.handle(e, s.clock)
			a.views[e.SHA256] = h
		}
		if e.Kind == tsl.VL {
			s.vls = append(s.vls, h)
		} else {
			s.tsls = append(s.tsls, h)
		}
	}
	s.finish()
	return s
}

// handle makes a list that is read when it is asked for.
func (a *Archive) handle(e archiveEntry, clock func() time.Time) *listHandle {
	h := &listHandle{next: e.NextUpdate, ref: ListRef{Kind: e.Kind, ID: e.ID, Sequence: e.Sequence, SHA256: e.SHA256, Issued: e.Issued}}
	hex.Decode(h.hash[:], []byte(e.SHA256))
	lazy := &lazyView{clock: clock, loaded: a.loaded, read: func() (*view, error) {
		l, err := a.read(e)
		if err != nil {
			return nil, err
		}
		return newView(l, a.shared), nil
	}}
	h.load = lazy.load
	return h
}

// replaceFile writes a file in one step: a reader, and a machine that loses power, sees the old or the new one.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o640)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
