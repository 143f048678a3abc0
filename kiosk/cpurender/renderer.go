package cpurender

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"runtime"
	"sync"
	"sync/atomic"

	"gioui.org/op"
)

// Order is the order of the bytes of a pixel in the target.
type Order uint8

const (
	// RGBA is the order of image.RGBA.
	RGBA Order = iota
	// BGRX is the order of DRM's XRGB8888 on little endian machines. The fourth
	// byte holds alpha, as in RGBA; displays ignore it.
	BGRX
)

// Options configure a Renderer. The zero value is ready to use.
type Options struct {
	// Workers is the number of goroutines that paint; 0 stands for
	// runtime.GOMAXPROCS, at most 4. The picture does not depend on it.
	Workers int
	// Order is the byte order of the target.
	Order Order
	// MaskBudget is the memory for cached coverage masks, in bytes; 0 stands
	// for 8 MiB. Masks of the current frame are kept whatever it says.
	MaskBudget int
	// ImageBudget is the memory for smaller versions and scaled copies of
	// images, in bytes; 0 stands for 16 MiB.
	ImageBudget int
	// MaxFrameMasks bounds the memory for the masks of one frame, in bytes; 0
	// stands for 64 MiB. Shapes beyond it are not drawn.
	MaxFrameMasks int
	// MaxOps bounds the operations of one frame; 0 stands for 200,000.
	MaxOps int
	// Report receives each kind of problem once: errors that wrap ErrUnknownOp,
	// ErrUnbalanced, ErrBadImage, ErrBadNumber, ErrLimit, ErrTarget or ErrPanic. It is
	// called from Frame. Nil means that problems pass in silence.
	Report func(error)
}

// Tile size: damage is found in units of this many pixels.
const (
	tileWidth  = 64
	tileHeight = 32
)

// maxSide bounds the sides of a target.
const maxSide = 1 << 14

// Renderer paints operation lists. It is not safe for use by several
// goroutines at once.
type Renderer struct {
	opt      Options
	workers  []*worker
	starts   []func()
	masks    *maskCache
	textures textureCache
	walk     walker
	frame    uint64 // number of the current frame

	target surface
	last   surface // the target of the last frame
	valid  bool    // the target holds the last frame

	tiles  []uint64 // hash per tile of this frame
	old    []uint64 // of the last frame
	firsts []int32  // per tile: the last command that covers it opaquely, or -1
	cols   int
	rows   [][]int32 // commands per row of tiles
	strips []strip
	damage []image.Rectangle

	// work in progress
	phase    phase
	jobs     int
	batch    []*mask
	next     atomic.Int64
	wait     sync.WaitGroup
	reported map[error]bool
	stats    Stats
}

type phase uint8

const (
	phaseMasks phase = iota
	phaseStrips
)

// Stats tells what the last frame cost and what is cached.
type Stats struct {
	Frames       uint64 // frames since New
	Commands     int    // paint commands of the last frame
	MasksBuilt   int    // masks built for the last frame
	Masks        int    // masks in the cache
	MaskBytes    int    // their memory
	Images       int    // images known
	ImageBytes   int    // memory of their smaller versions and scaled copies
	DamagePixels int    // pixels painted in the last frame
	Recovered    int    // panics recovered since New
}

// New returns a renderer.
func New(opt Options) *Renderer {
	if opt.Workers <= 0 {
		opt.Workers = min(runtime.GOMAXPROCS(0), 4)
	}
	opt.MaskBudget = orDefault(opt.MaskBudget, 8<<20)
	opt.ImageBudget = orDefault(opt.ImageBudget, 16<<20)
	opt.MaxFrameMasks = orDefault(opt.MaxFrameMasks, 64<<20)
	opt.MaxOps = orDefault(opt.MaxOps, 200_000)
	r := &Renderer{opt: opt, reported: make(map[error]bool)}
	for range opt.Workers {
		w := &worker{r: r}
		r.workers = append(r.workers, w)
		r.starts = append(r.starts, w.run)
	}
	r.walk.r = r
	r.walk.saved = make(map[uint32]matrix)
	r.dropCaches()
	return r
}

func orDefault(v, def int) int {
	if v <= 0 {
		return def
	}
	return v
}

// dropCaches starts over with empty caches.
func (r *Renderer) dropCaches() {
	r.masks = newMaskCache(r.opt.MaskBudget)
	r.textures = textureCache{
		textures: make(map[any]*texture), copies: make(map[scaledKey]*texture), nextID: r.textures.nextID,
		budget: r.opt.ImageBudget, swap: r.opt.Order == BGRX,
	}
}

// Flush forgets all masks and images, for instance when memory is short. The
// next frame builds those it needs again; the picture does not change.
func (r *Renderer) Flush() { r.dropCaches() }

// Invalidate makes the next frame paint everything. It is needed only when
// something else wrote to the target.
func (r *Renderer) Invalidate() { r.valid = false }

// Stats returns figures about the last frame.
func (r *Renderer) Stats() Stats {
	s := r.stats
	s.Masks, s.MaskBytes = len(r.masks.masks), r.masks.bytes
	s.Images, s.ImageBytes = len(r.textures.textures), r.textures.bytes
	return s
}

// report passes a problem on, each kind once.
func (r *Renderer) report(err error) {
	kind := err
	for _, k := range []error{ErrUnknownOp, ErrUnbalanced, ErrBadImage, ErrBadNumber, ErrLimit, ErrTarget, ErrPanic} {
		if errors.Is(err, k) {
			kind = k
		}
	}
	if r.reported[kind] {
		return
	}
	r.reported[kind] = true
	if r.opt.Report != nil {
		r.opt.Report(fmt.Errorf("cpurender: %w", err))
	}
}

// nrgba reads a colour in the byte order of the target.
func (r *Renderer) nrgba(b []byte) color.NRGBA {
	c := color.NRGBA{R: b[0], G: b[1], B: b[2], A: b[3]}
	if r.opt.Order == BGRX {
		c.R, c.B = c.B, c.R
	}
	return c
}

// Frame paints the list into dst, which must hold what the last call painted,
// and returns the rectangles that changed, in the coordinates of dst. The
// origin of the list is the upper left corner of dst. Where nothing is painted
// dst becomes transparent black. The first call, and one with another target
// or size, paints everything.
//
// In BGRX order dst is an image.RGBA in name only: its bytes come in the order
// of the option.
//
// The returned slice is valid until the next call. The list is not kept;
// images in it are, for a while.
func (r *Renderer) Frame(dst *image.RGBA, list *op.Ops) []image.Rectangle {
	target, ok := newTarget(dst)
	if !ok {
		r.report(ErrTarget)
		return nil
	}
	if !r.valid || !target.same(&r.last) {
		r.valid = false
	}
	r.target, r.last = target, target
	err := r.attempt(list)
	if err != nil {
		// Start over once: empty caches, everything painted.
		r.stats.Recovered++
		r.report(err)
		r.dropCaches()
		r.valid = false
		if err = r.attempt(list); err != nil {
			r.dropCaches()
			r.valid = false
			r.damage = append(r.damage[:0], target.r)
		}
	}
	r.walk.release()
	for i := range r.damage {
		r.damage[i] = r.damage[i].Add(dst.Rect.Min)
	}
	return r.damage
}

// newTarget describes the pixels of an image, with the origin moved to zero.
func newTarget(dst *image.RGBA) (surface, bool) {
	if dst == nil {
		return surface{}, false
	}
	w, h := dst.Rect.Dx(), dst.Rect.Dy()
	if w <= 0 || h <= 0 || w > maxSide || h > maxSide ||
		dst.Stride < 4*w || len(dst.Pix) < (h-1)*dst.Stride+4*w {
		return surface{}, false
	}
	return surface{pix: dst.Pix, stride: dst.Stride, r: image.Rect(0, 0, w, h)}, true
}

func (s *surface) same(o *surface) bool {
	return s.r == o.r && s.stride == o.stride && len(o.pix) > 0 && &s.pix[0] == &o.pix[0]
}

// attempt paints the frame; a panic becomes an error.
func (r *Renderer) attempt(list *op.Ops) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrPanic, p)
		}
	}()
	r.frame++
	r.stats.Frames++
	r.walk.reset(r.target.r)
	r.masks.made = 0
	r.walk.collect(list)
	if err := r.buildMasks(); err != nil {
		return err
	}
	r.compare()
	r.stats.Commands = len(r.walk.cmds)
	if len(r.strips) > 0 {
		if err := r.buildImages(); err != nil {
			return err
		}
		if err := r.parallel(phaseStrips, len(r.strips), r.painted() > smallDamage); err != nil {
			return err
		}
	}
	r.tiles, r.old = r.old, r.tiles
	r.valid = true
	r.masks.evict(r.frame)
	r.textures.evict(r.frame)
	return nil
}

// smallDamage is the number of pixels below which a second worker does not pay.
const smallDamage = 96 * 1024

// painted returns the number of pixels of all strips.
func (r *Renderer) painted() int {
	n := 0
	for i := range r.strips {
		n += r.strips[i].r.Dx() * r.strips[i].r.Dy()
	}
	r.stats.DamagePixels = n
	return n
}

// parallel runs a phase on all workers.
func (r *Renderer) parallel(p phase, jobs int, all bool) error {
	r.phase, r.jobs = p, jobs
	r.next.Store(0)
	n := 1
	if all {
		n = min(len(r.workers), jobs)
	}
	r.wait.Add(n)
	for i := 1; i < n; i++ {
		go r.starts[i]()
	}
	r.workers[0].run()
	r.wait.Wait()
	var err error
	for _, w := range r.workers {
		if w.err != nil {
			err, w.err = w.err, nil
		}
	}
	return err
}

// batchArea is how many pixels of masks are built before their memory is
// counted.
const batchArea = 4 << 20

// buildMasks builds the masks that are new, in batches, until the memory for
// one frame is used up.
func (r *Renderer) buildMasks() error {
	pending := r.walk.pending
	r.stats.MasksBuilt = len(pending)
	bytes, over := 0, false
	for len(pending) > 0 {
		n, area := 0, 0
		for n < len(pending) && n < 256 && area < batchArea {
			a := pending[n].job.area
			area += a.Dx() * a.Dy()
			n++
		}
		batch := pending[:n]
		pending = pending[n:]
		if bytes > r.opt.MaxFrameMasks {
			// Too much: what is left covers nothing, and is forgotten.
			over = true
			for _, m := range batch {
				m.job, m.built = maskJob{}, true
				r.masks.remove(m)
			}
			continue
		}
		r.batch = batch
		if err := r.parallel(phaseMasks, n, area > 4096); err != nil {
			return err
		}
		for _, m := range batch {
			bytes += m.size
			r.masks.bytes += m.size - maskOverhead
		}
	}
	r.batch = nil
	if over {
		r.report(fmt.Errorf("%w: shapes need more than %d bytes", ErrLimit, r.opt.MaxFrameMasks))
	}
	return nil
}

// buildImages computes the smaller versions and scaled copies of images that
// will be read.
func (r *Renderer) buildImages() error {
	for i := range r.walk.samplers {
		s := &r.walk.samplers[i]
		switch n := s.levels(); {
		case s.direct && s.t.from != nil:
			r.textures.bytes += s.t.buildCopy()
		case !s.direct && n > len(s.t.mips):
			r.textures.bytes += s.t.build(n)
		}
	}
	return nil
}

// compare hashes the commands of each tile, sorts them by rows of tiles, and
// collects the strips of tiles that differ from the last frame.
func (r *Renderer) compare() {
	size := r.target.r.Size()
	r.cols = (size.X + tileWidth - 1) / tileWidth
	rows := (size.Y + tileHeight - 1) / tileHeight
	n := r.cols * rows
	if cap(r.tiles) < n {
		r.tiles, r.firsts = make([]uint64, n), make([]int32, n)
		r.valid = false
	}
	r.tiles, r.firsts = r.tiles[:n], r.firsts[:n]
	if cap(r.old) < n {
		r.old = make([]uint64, n)
		r.valid = false
	}
	r.old = r.old[:n]
	clear(r.tiles)
	for i := range r.firsts {
		r.firsts[i] = -1
	}
	for len(r.rows) < rows {
		r.rows = append(r.rows, nil)
	}
	r.rows = r.rows[:rows]
	for i := range r.rows {
		r.rows[i] = r.rows[i][:0]
	}
	for i := range r.walk.cmds {
		c := &r.walk.cmds[i]
		if c.clip >= 0 {
			// A mask knows its extent better than its control points.
			n := &r.walk.clips[c.clip]
			c.bounds = c.bounds.Intersect(n.mask.bounds.Add(n.off))
		}
		if !c.bounds.Empty() {
			r.bin(i, c)
		}
	}
	r.strips = r.strips[:0]
	r.damage = r.damage[:0]
	for ty := range rows {
		for tx := 0; tx < r.cols; tx++ {
			if i := ty*r.cols + tx; r.valid && r.tiles[i] == r.old[i] {
				continue
			}
			start := tx
			for tx < r.cols && !(r.valid && r.tiles[ty*r.cols+tx] == r.old[ty*r.cols+tx]) {
				// A strip ends where another command is the first to be seen.
				from, first := tx, r.firsts[ty*r.cols+tx]
				for tx++; tx < r.cols; tx++ {
					i := ty*r.cols + tx
					if r.firsts[i] != first || r.valid && r.tiles[i] == r.old[i] {
						break
					}
				}
				r.strips = append(r.strips, strip{r: r.tileArea(from, tx, ty), row: ty, first: int(first)})
			}
			r.addDamage(r.tileArea(start, tx, ty))
		}
	}
	r.stats.DamagePixels = 0
}

// tileArea returns the pixels of the tiles x0 to x1 of a row.
func (r *Renderer) tileArea(x0, x1, y int) image.Rectangle {
	return image.Rect(x0*tileWidth, y*tileHeight, x1*tileWidth, (y+1)*tileHeight).Intersect(r.target.r)
}

// bin adds a command to the tiles it touches.
func (r *Renderer) bin(i int, c *drawCommand) {
	b := c.bounds
	tx0, tx1 := b.Min.X/tileWidth, (b.Max.X-1)/tileWidth
	ty0, ty1 := b.Min.Y/tileHeight, (b.Max.Y-1)/tileHeight
	// Where the command hides all that is below.
	var cover image.Rectangle
	if c.opaque && c.layer == 0 {
		cover = b
		if c.clip >= 0 {
			n := &r.walk.clips[c.clip]
			cover = b.Intersect(n.mask.solid.Add(n.off))
			if n.outer >= 0 {
				cover = image.Rectangle{}
			}
		}
	}
	for ty := ty0; ty <= ty1; ty++ {
		r.rows[ty] = append(r.rows[ty], int32(i))
		y0, y1 := ty*tileHeight, min((ty+1)*tileHeight, r.target.r.Max.Y)
		top, bottom := max(b.Min.Y, y0), min(b.Max.Y, y1)
		for tx := tx0; tx <= tx1; tx++ {
			x0, x1 := tx*tileWidth, min((tx+1)*tileWidth, r.target.r.Max.X)
			left, right := max(b.Min.X, x0), min(b.Max.X, x1)
			t := ty*r.cols + tx
			if x0 >= cover.Min.X && x1 <= cover.Max.X && y0 >= cover.Min.Y && y1 <= cover.Max.Y {
				r.firsts[t] = int32(i)
				r.tiles[t] = mix64(1, c.hash)
				continue
			}
			// The part of the bounds within the tile, in 7 bits each.
			part := uint64(left-x0) | uint64(right-x0)<<8 | uint64(top-y0)<<16 | uint64(bottom-y0)<<24
			r.tiles[t] = mix64(r.tiles[t]+part, c.hash)
		}
	}
}

// addDamage adds a rectangle, joined with the one above when they are equally
// wide.
func (r *Renderer) addDamage(a image.Rectangle) {
	for i := len(r.damage) - 1; i >= 0; i-- {
		d := &r.damage[i]
		if d.Max.Y < a.Min.Y {
			break
		}
		if d.Max.Y == a.Min.Y && d.Min.X == a.Min.X && d.Max.X == a.Max.X {
			d.Max.Y = a.Max.Y
			return
		}
	}
	r.damage = append(r.damage, a)
}
