package protoparser

import (
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
)

// Format is what must be known of a wire format to recognise a series by the bytes of its labels.
type Format interface {
	// Name differs between formats.
	Name() string
	// UseLabels calls use with the labels of bytes which the format took for those of a series before. Several
	// goroutines may call it at a time.
	UseLabels(raw []byte, use func(labels []model.Label))
}

// rawCollector is the part of a collector which recognises series.
type rawCollector struct {
	format        Format // nil: the request has no raw labels
	circumstances seriesID
	body          []byte // raw labels are parts of it; nil: they are copied to text
	text          []byte
	numbers       *generation // of the batch; nil when nothing is numbered
	next          uint32      // number expected next: senders repeat their order
	id            seriesID    // of the series given to StartRaw last
	isNew         bool        // it awaits a number
	dropped       bool        // relabelling drops it; set anew when a series is not begun
	full          bool        // there are no more numbers
	hits          int
	misses        int
}

const maxPooledText = 2 * maxBatchLabelBytes

func (r *rawCollector) reset() {
	text := r.text[:0]
	if cap(text) > maxPooledText {
		text = nil
	}
	*r = rawCollector{text: text}
}

// CollectRaw returns a collector which recognises series. Body is what the raw labels given to it are parts of, and is
// left alone until the collector is released; nil when they are only valid for the call.
func (in *Intake) CollectRaw(req *Request, format Format, body []byte) *Collector {
	c := in.Collect(req)
	c.raw.format, c.raw.body = format, body
	c.raw.circumstances = in.numbers.circumstances(req, format.Name())
	return c
}

// Raw labels are named by where they are and how long they are, in 64 bits.
const (
	rawSizeBits = 24
	maxRawSize  = 1<<rawSizeBits - 1
	maxRawStart = 1<<(64-rawSizeBits) - 1
)

// StartRaw begins a series whose labels are the given bytes, which are at the given place in the body. When it returns false,
// the series is not known, and StartNew decides what becomes of it.
func (c *Collector) StartRaw(raw []byte, at, rows int) bool {
	r := &c.raw
	if !c.mayStart(raw, at, rows) {
		return false
	}
	n := c.intake.numbers
	r.id[0] = n.half(0, raw, &r.circumstances)
	if known := r.numbers.guess(r.next, r.id[0]); known != nil {
		return c.addKnown(r.next, known, raw, at)
	}
	r.id[1] = n.half(1, raw, &r.circumstances)
	return c.startFound(raw, at)
}

// StartAs is StartRaw for a format whose raw labels mean something else in each request. The series is recognised by its identity, 128 bits
// which are the same for the same labels in all requests, and made with secret seeds like a seriesID.
func (c *Collector) StartAs(identity [2]uint64, raw []byte, at, rows int) bool {
	if !c.mayStart(raw, at, rows) {
		return false
	}
	c.raw.id = seriesID{identity[0] ^ c.raw.circumstances[0], identity[1] ^ c.raw.circumstances[1]}
	return c.startFound(raw, at)
}

// mayStart reports whether a series that is known can be begun.
func (c *Collector) mayStart(raw []byte, at, rows int) bool {
	r := &c.raw
	r.isNew, r.dropped = false, false
	return rows > 0 && len(raw) > 0 && len(raw) <= maxRawSize && at <= maxRawStart && c.makeRoom() && r.numbers != nil
}

// startFound begins the series with the identifier r.id if it is known.
func (c *Collector) startFound(raw []byte, at int) bool {
	r := &c.raw
	number, known := r.numbers.find(&r.id)
	if known == nil {
		r.misses++
		r.isNew = !r.full
		return false
	}
	return c.addKnown(number, known, raw, at)
}

// Dropped reports whether StartRaw or StartExpected, which has just returned false, knows that relabelling drops the series.
func (c *Collector) Dropped() bool { return c.raw.dropped }

// addKnown begins a known series, unless it is dropped.
func (c *Collector) addKnown(number uint32, known *numbered, raw []byte, at int) bool {
	r := &c.raw
	r.hits++
	r.next = number + 1
	if known.hash == droppedHash {
		c.drops()
		return false
	}
	if r.body == nil {
		at = len(r.text)
		r.text = append(r.text, raw...)
	}
	c.batch.AddNumbered(number, known.hash, uint64(at)<<rawSizeBits|uint64(len(raw)))
	return true
}

// StartExpected is StartRaw for bytes which may or may not be labels: it begins the series if it is the one which senders that
// repeat their order send next, and changes nothing otherwise.
func (c *Collector) StartExpected(raw []byte, at int) bool {
	return c.mayStart(raw, at, 1) && c.startExpected(c.intake.numbers.half(0, raw, &c.raw.circumstances), raw, at)
}

// StartExpectedAs is StartExpected for a series with the given first half of an identity, as StartAs has it.
func (c *Collector) StartExpectedAs(half uint64, raw []byte, at int) bool {
	return c.mayStart(raw, at, 1) && c.startExpected(half^c.raw.circumstances[0], raw, at)
}

func (c *Collector) startExpected(half uint64, raw []byte, at int) bool {
	known := c.raw.numbers.guess(c.raw.next, half)
	return known != nil && c.addKnown(c.raw.next, known, raw, at)
}

// StartNew begins the series which StartRaw has just not known. It does what StartSeries does, and the series is known
// from then on unless it is left out.
func (c *Collector) StartNew(labels []model.Label, rows int) bool {
	isNew := c.raw.isNew
	c.raw.isNew = false
	if !c.StartSeries(labels, rows) {
		if isNew && c.raw.dropped {
			c.giveNumber(droppedHash)
		}
		return false
	}
	if hash := c.batch.Hash(c.batch.Len() - 1); isNew && hash != droppedHash {
		if number, ok := c.giveNumber(hash); ok {
			c.batch.SetNumber(number)
		}
	}
	return true
}

// giveNumber gives a number to the series given to StartNew, which has passed all checks or is dropped by relabelling.
func (c *Collector) giveNumber(hash uint64) (uint32, bool) {
	number, ok := c.raw.numbers.add(&c.raw.id, hash)
	if !ok {
		c.raw.full = true
		return 0, false
	}
	c.raw.next = number + 1
	return number, true
}

// beginNumbers sets the space of the batch, which is empty, and how its series are relabelled.
func (c *Collector) beginNumbers() {
	if c.raw.numbers != nil {
		return
	}
	if c.raw.format != nil {
		c.raw.numbers = c.intake.numbers.acquire()
	}
	if c.raw.numbers == nil {
		c.relabel = c.intake.numbers.relabeling()
		return
	}
	c.relabel = c.raw.numbers.relabel
	c.batch.SetSpace(c.raw.numbers.space, c)
}

// endNumbers is called when the batch is used no more.
func (c *Collector) endNumbers() {
	r := &c.raw
	if r.numbers == nil {
		return
	}
	c.intake.numbers.release(r.numbers)
	c.intake.numbers.hits.Add(r.hits)
	c.intake.numbers.misses.Add(r.misses)
	r.numbers, r.full, r.hits, r.misses, r.text = nil, false, 0, 0, r.text[:0]
}

// AppendKey makes the key of a known series in the batch; it implements model.Keyer. Several goroutines may call
// it at a time.
func (c *Collector) AppendKey(dst []byte, number uint32, hint uint64) []byte {
	r := &c.raw
	text := r.body
	if text == nil {
		text = r.text
	}
	start, size := hint>>rawSizeBits, hint&maxRawSize
	keyStart := len(dst)
	r.format.UseLabels(text[start:start+size], func(labels []model.Label) {
		labels, _, kept := c.req.change(labels, nil, r.numbers.relabel)
		invariants.Check(kept, "series number %d is dropped", number)
		tenant, labels := c.req.tenantOf(labels)
		if c.intake.config.PromNaming {
			promNames(labels)
		}
		var err error
		dst, err = model.AppendSeriesKey(dst, tenant, labels)
		invariants.Check(err == nil, "a known series has no key: %v", err)
	})
	invariants.Check(model.HashSeriesKey(dst[keyStart:]) == r.numbers.at(number).hash, "series number %d has another key", number)
	return dst
}
