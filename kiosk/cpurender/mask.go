package cpurender

import "image"

// mask is the coverage of a shape, run-length coded, relative to its own
// origin. It never changes once built.
type mask struct {
	// bounds encloses all coverage; empty for a shape that covers nothing.
	bounds image.Rectangle
	// solid is a rectangle in which the coverage is complete; it lets clips be
	// skipped by what lies well inside of them.
	solid image.Rectangle
	// rows holds, for each row of bounds, where its spans start; one more at
	// the end.
	rows  []uint32
	spans []span
	// cover holds the coverage of the spans that are not solid.
	cover []uint8

	key   maskKey
	id    uint64 // hash of key
	frame uint64 // the last frame that used the mask
	size  int    // bytes of memory

	box    image.Rectangle // bounds of the control points
	bad    bool            // the shape has coordinates that cannot be drawn
	queued bool            // the job waits
	built  bool
	job    maskJob
	prev   *mask // neighbours in the list by last use
	next   *mask
}

// span is a run of covered pixels [x0, x1) relative to bounds.Min.X. Its
// coverage starts at cover[off], or is complete when off is solidSpan.
type span struct {
	x0, x1 uint16
	off    uint32
}

const solidSpan = 1<<32 - 1

// maxMaskSide bounds the sides of a mask, so that spans fit in 16 bits.
const maxMaskSide = 1 << 14

// maskKey names the content of a mask. Two shapes with the same key have the
// same coverage.
type maskKey struct {
	path           uint64 // Gio's hash of the path commands, or of a rectangle
	kind           shapeKind
	width          float32 // stroke width
	sx, hx, hy, sy float32 // linear part of the transform
	fx, fy         float32 // fraction of the offset
	cut            [4]int32
}

type shapeKind uint8

const (
	shapeOutline shapeKind = iota
	shapeStroke
	shapeRect
	shapeNothing
)

// hash mixes the key to 64 bits.
func (k *maskKey) hash() uint64 {
	h := mix64(k.path, uint64(k.kind))
	h = mixFloats(h, k.width, 0)
	h = mixFloats(h, k.sx, k.hx)
	h = mixFloats(h, k.hy, k.sy)
	h = mixFloats(h, k.fx, k.fy)
	h = mix64(h, uint64(uint32(k.cut[0]))<<32|uint64(uint32(k.cut[1])))
	return mix64(h, uint64(uint32(k.cut[2]))<<32|uint64(uint32(k.cut[3])))
}

// maskJob is what is needed to build a mask. The path data belongs to the
// operation list and is dropped after the frame.
type maskJob struct {
	path []byte
	rect rectangle
	t    matrix
	area image.Rectangle
}

// maskBuilder collects the runs of one mask. It is scratch memory of a worker.
type maskBuilder struct {
	rows  []uint32
	spans []span
	cover []uint8
	// the run being collected
	x0, x1  int
	value   uint8
	partial int // start in cover of the open partial span, or -1
}

// minSolid is the shortest run worth a span of its own.
const minSolid = 4

func (b *maskBuilder) reset() {
	b.rows, b.spans, b.cover = b.rows[:0], b.spans[:0], b.cover[:0]
}

func (b *maskBuilder) beginRow() {
	b.rows = append(b.rows, uint32(len(b.spans)))
	b.x0, b.x1, b.value, b.partial = 0, 0, 0, -1
}

// run extends the row by pixels of one coverage.
func (b *maskBuilder) run(x0, x1 int, v uint8) {
	if v == b.value {
		b.x1 = x1
		return
	}
	b.flush()
	b.x0, b.x1, b.value = x0, x1, v
}

// flush writes the collected run.
func (b *maskBuilder) flush() {
	n := b.x1 - b.x0
	switch {
	case n == 0:
	case b.value == 0 && (n >= minSolid || b.partial < 0):
		b.closePartial(b.x0)
	case b.value == 255 && n >= minSolid:
		b.closePartial(b.x0)
		b.spans = append(b.spans, span{uint16(b.x0), uint16(b.x1), solidSpan})
	default:
		if b.partial < 0 {
			b.partial = len(b.cover)
			b.spans = append(b.spans, span{uint16(b.x0), 0, uint32(b.partial)})
		}
		for range n {
			b.cover = append(b.cover, b.value)
		}
	}
}

// closePartial ends the open span of partial coverage at x.
func (b *maskBuilder) closePartial(x int) {
	if b.partial < 0 {
		return
	}
	// Drop the uncovered pixels at its end.
	for n := len(b.cover); n > b.partial && b.cover[n-1] == 0; n-- {
		b.cover = b.cover[:n-1]
		x--
	}
	b.spans[len(b.spans)-1].x1 = uint16(x)
	b.partial = -1
}

func (b *maskBuilder) endRow() {
	b.flush()
	b.closePartial(b.x1)
}

// rasterCells bounds the memory of a rasteriser; larger shapes are built in
// bands.
const rasterCells = 1 << 18

// build computes the coverage. It is the only writer of m.
func (m *mask) build(w *worker) {
	job := &m.job
	area := job.area
	b := &w.builder
	b.reset()
	first, last := -1, -1 // rows with coverage
	minX, maxX := area.Dx(), 0
	band := max(1, rasterCells/(area.Dx()+2))
	for y0 := area.Min.Y; y0 < area.Max.Y; y0 += band {
		part := area
		part.Min.Y, part.Max.Y = y0, min(y0+band, area.Max.Y)
		w.raster.reset(part.Dx(), part.Dy())
		w.flat.run(&w.raster, &m.key, job, part)
		for y := range part.Dy() {
			b.beginRow()
			if w.raster.any {
				w.raster.sweep(y, b)
			}
			b.endRow()
			row := b.spans[b.rows[len(b.rows)-1]:]
			if len(row) > 0 {
				last = len(b.rows) - 1
				if first < 0 {
					first = last
				}
				minX = min(minX, int(row[0].x0))
				maxX = max(maxX, int(row[len(row)-1].x1))
			}
		}
	}
	b.rows = append(b.rows, uint32(len(b.spans)))
	if first < 0 {
		m.bounds, m.rows, m.spans, m.cover = image.Rectangle{}, nil, nil, nil
	} else {
		m.bounds = image.Rect(area.Min.X+minX, area.Min.Y+first, area.Min.X+maxX, area.Min.Y+last+1)
		m.rows = append([]uint32(nil), b.rows[first:last+2]...)
		m.spans = append([]span(nil), b.spans...)
		m.cover = append([]uint8(nil), b.cover...)
		for i := range m.spans {
			m.spans[i].x0 -= uint16(minX)
			m.spans[i].x1 -= uint16(minX)
		}
	}
	m.solid = m.findSolid()
	m.size = maskOverhead + 4*cap(m.rows) + 8*cap(m.spans) + cap(m.cover)
	m.job = maskJob{}
	m.queued, m.built = false, true
}

// maskOverhead is the memory of a mask without its runs: struct and cache
// entry.
const maskOverhead = 512

// findSolid returns a large completely covered rectangle: the widest solid run
// of the middle row, as far up and down as it holds.
func (m *mask) findSolid() image.Rectangle {
	h := m.bounds.Dy()
	if h == 0 {
		return image.Rectangle{}
	}
	var run span
	mid := h / 2
	for _, s := range m.row(mid) {
		if s.off == solidSpan && s.x1-s.x0 > run.x1-run.x0 {
			run = s
		}
	}
	if run.x1 == run.x0 {
		return image.Rectangle{}
	}
	holds := func(y int) bool {
		for _, s := range m.row(y) {
			if s.off == solidSpan && s.x0 <= run.x0 && s.x1 >= run.x1 {
				return true
			}
		}
		return false
	}
	y0, y1 := mid, mid+1
	for y0 > 0 && holds(y0-1) {
		y0--
	}
	for y1 < h && holds(y1) {
		y1++
	}
	return image.Rect(int(run.x0), y0, int(run.x1), y1).Add(m.bounds.Min)
}

// row returns the spans of row y of bounds.
func (m *mask) row(y int) []span { return m.spans[m.rows[y]:m.rows[y+1]] }

// maskCache finds masks by content and forgets those not used for longest when
// the budget is exceeded.
type maskCache struct {
	masks  map[maskKey]*mask
	list   mask // ring: list.next is the most recently used
	bytes  int
	budget int
	made   int // masks made for the current frame
}

func newMaskCache(budget int) *maskCache {
	c := &maskCache{masks: make(map[maskKey]*mask), budget: budget}
	c.list.prev, c.list.next = &c.list, &c.list
	return c
}

// get returns the mask for a key, and whether it is new.
func (c *maskCache) get(key maskKey, frame uint64) (m *mask, isNew bool) {
	m, ok := c.masks[key]
	if ok {
		if m.frame == frame {
			return m, false
		}
		m.prev.next, m.next.prev = m.next, m.prev
	} else {
		m = &mask{key: key, id: key.hash(), size: maskOverhead}
		c.masks[key] = m
		c.bytes += m.size
		c.made++
	}
	m.frame = frame
	m.prev, m.next = &c.list, c.list.next
	m.next.prev, c.list.next = m, m
	return m, !ok
}

// evict drops the masks unused for longest until the budget is kept, but none
// that the given frame uses.
func (c *maskCache) evict(frame uint64) {
	for c.bytes > c.budget {
		m := c.list.prev
		if m == &c.list || m.frame == frame {
			return
		}
		c.remove(m)
	}
}

func (c *maskCache) remove(m *mask) {
	m.prev.next, m.next.prev = m.next, m.prev
	m.prev, m.next = nil, nil
	c.bytes -= m.size
	delete(c.masks, m.key)
}
