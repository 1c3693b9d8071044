package prompb

import (
	"encoding/binary"
	"math"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

// Label is the shape a label type must have.
type Label = struct{ Name, Value string }

// Sample is one value of a series.
type Sample struct {
	Timestamp int64 // Unix milliseconds
	Value     float64
	Start     int64 // when the counter began, in Unix milliseconds; 0 when the sender does not say, as those of version 1.0 never do
}

// TimeSeries is one series of a request.
type TimeSeries[L ~struct{ Name, Value string }] struct {
	Labels  []L // as sent: neither sorted nor checked
	Samples []Sample
}

// Skipped counts what a request held besides labels, samples, native histograms and exemplars.
type Skipped struct {
	Metadata int
	// V2 counts fields which only remote write 2.0 requests have. A request with
	// some of them and without series was sent in the wrong version.
	V2 int
}

// Decoder walks over the series of a WriteRequest.
//
//	for d.Next() { use(d.At()) }
//	err := d.Err()
//
// The zero value is ready for Reset and can be used again and again.
//
// Who needs the labels of few series calls NextRaw instead of Next, compares Raw, and asks
// for Labels when it has not seen these bytes before. Who knows which bytes to expect calls NextGuess, which does not even walk over the
// labels.
type Decoder[L ~struct{ Name, Value string }] struct {
	body     []byte
	pos      int
	series   TimeSeries[L]
	raw      span // of the label fields; empty when they are not one run at the front of the series
	start    int  // of the message of the series
	lazy     bool // the labels have not been decoded
	guessed  bool // by NextGuess
	before   int  // position before a guess
	skipped  Skipped
	metadata []span // of the messages passed so far
	err      error

	histograms []span // of the messages of the series
	exemplars  []span // likewise
}

// span is a part of the body.
type span struct{ start, end int }

// Reset starts over with a new body, which is read until the last use of a
// series. Reset(nil) drops all references to the body.
func (d *Decoder[L]) Reset(body []byte) {
	if cap(d.series.Labels) > keptLabels {
		d.series.Labels = nil // one odd request must not make all others clear so much
	}
	if cap(d.series.Samples) > keptSamples {
		d.series.Samples = nil
	}
	clear(d.series.Labels[:cap(d.series.Labels)])
	d.body, d.pos, d.err = body, 0, nil
	d.raw, d.lazy, d.guessed = span{}, false, false
	d.series.Labels, d.series.Samples = d.series.Labels[:0], d.series.Samples[:0]
	d.skipped = Skipped{}
	d.metadata = d.metadata[:0]
	if cap(d.metadata) > keptLabels {
		d.metadata = nil
	}
	if d.histograms = d.histograms[:0]; cap(d.histograms) > keptSamples {
		d.histograms = nil
	}
	if d.exemplars = d.exemplars[:0]; cap(d.exemplars) > keptSamples {
		d.exemplars = nil
	}
}

// At returns the current series, which is valid until the next call of Next or Reset.
func (d *Decoder[L]) At() *TimeSeries[L] { return &d.series }

// Err returns what ended the walk early, of kind BadRequest, or nil.
func (d *Decoder[L]) Err() error { return d.err }

// Skipped returns what was skipped so far.
func (d *Decoder[L]) Skipped() Skipped { return d.skipped }

// Next moves to the next series; false at the end or on an error.
func (d *Decoder[L]) Next() bool {
	d.raw, d.lazy, d.guessed = span{}, false, false
	for d.err == nil && d.pos < len(d.body) {
		r := reader{b: d.body, pos: d.pos, end: len(d.body)}
		field, wire := r.tag()
		switch field {
		case 1:
			ok := d.readSeries(r.message(wire, "time series"), &r)
			d.finish(&r)
			return ok && d.err == nil
		case 3:
			start, end := r.bytes(wire, "metadata")
			d.metadata = append(d.metadata, span{start, end})
			d.skipped.Metadata++
		case 4, 5:
			r.skip(field, wire)
			d.skipped.V2++
		default:
			r.skip(field, wire)
		}
		d.finish(&r)
	}
	return false
}

// finish takes over position and fault of a reader of the whole body.
func (d *Decoder[L]) finish(r *reader) {
	d.pos = r.pos
	if r.fault != "" {
		d.err = errkind.New(errkind.BadRequest, "cannot decode remote write request of %d bytes at offset %d: %s", len(d.body), r.faultPos, r.fault)
	}
}

// Empty labels and samples take two bytes of a body and many times as much in memory, so there are bounds
// which no honest sender comes near: a sample with a value and a time takes nine bytes at least.
const (
	maxLabels      = 1 << 16
	minSampleBytes = 8       // on average
	freeSamples    = 1 << 12 // of any size
	keptLabels     = 1 << 10 // capacities which a decoder keeps
	keptSamples    = 1 << 17
)

// readSeries reads one TimeSeries message into d.series; faults go to outer.
func (d *Decoder[L]) readSeries(r reader, outer *reader) bool {
	labels, samples := d.series.Labels[:0], d.series.Samples[:0]
	d.histograms, d.exemplars = d.histograms[:0], d.exemplars[:0]
	mostSamples := freeSamples + (r.end-r.pos)/minSampleBytes
	raw := span{r.pos, r.pos}
	for r.pos < r.end {
		if len(labels) > maxLabels || len(samples)+len(d.histograms)+len(d.exemplars) > mostSamples {
			r.fail(r.pos, "the series has too many labels, or samples without time and value")
			break
		}
		at := r.pos
		if l, n := plainLabel(r.b[r.pos:r.end]); n > 0 {
			labels = append(labels, L(l))
			r.pos += n
			raw.extend(at, r.pos)
			continue
		}
		if sample, n := plainSample(r.b[r.pos:r.end]); n > 0 {
			samples = append(samples, sample)
			r.pos += n
			continue
		}
		field, wire := r.tag()
		switch field {
		case 1:
			labels = append(labels, L(r.label(wire)))
			raw.extend(at, r.pos)
		case 2:
			s := r.sample(wire)
			s.Start = 0 // a field of version 2.0
			samples = append(samples, s)
		case 3:
			d.exemplars = r.appendMessage(d.exemplars, wire, "exemplar")
		case 4:
			d.histograms = r.appendMessage(d.histograms, wire, "histogram")
		default:
			r.skip(field, wire)
		}
	}
	d.series.Labels, d.series.Samples = labels, samples
	if raw.start >= 0 {
		d.raw = raw
	}
	outer.adopt(&r)
	return outer.fault == ""
}

// extend adds the label field from start to end. A span which is not one run of fields has a negative start.
func (s *span) extend(start, end int) {
	if start != s.end {
		s.start = -1
	}
	s.end = end
}

// plainLabel reads a label field in the form which encoders write nearly always: name,
// then value, each shorter than 128 bytes. It returns the size of the field, or
// 0 for anything else, faults included, which the general path then reads.
func plainLabel(b []byte) (l Label, size int) {
	const nameAt = 4 // after tag and size of the label, tag and size of the name
	if len(b) < nameAt || b[0] != 1<<3|wireBytes || b[1] >= 0x80 || b[2] != 1<<3|wireBytes || b[3] >= 0x80 {
		return l, 0
	}
	size = 2 + int(b[1])
	nameEnd := nameAt + int(b[3])
	valueAt := nameEnd + 2
	if size > len(b) || valueAt > size || b[nameEnd] != 2<<3|wireBytes || valueAt+int(b[nameEnd+1]) != size || b[nameEnd+1] >= 0x80 {
		return l, 0
	}
	return Label{Name: bytesutil.String(b[nameAt:nameEnd]), Value: bytesutil.String(b[valueAt:size])}, size
}

// plainSample reads a sample field with or without a value, then a timestamp from 1971 to 2109, as
// plainLabel does: the timestamp then takes six bytes.
func plainSample(b []byte) (s Sample, size int) {
	const timeBytes = 6
	const valueBytes = 9
	if len(b) < 3+timeBytes || b[0] != 2<<3|wireBytes {
		return s, 0
	}
	size = 3 + timeBytes // encoders leave out the value 0
	if b[1] == valueBytes+1+timeBytes && b[2] == 1<<3|wireFixed64 && len(b) >= size+valueBytes {
		s.Value = math.Float64frombits(binary.LittleEndian.Uint64(b[3:]))
		size += valueBytes
	} else if b[1] != 1+timeBytes {
		return s, 0
	}
	t := b[size-timeBytes-1 : size]
	if t[0] != 2<<3|wireVarint || t[6] >= 0x80 || t[1]&t[2]&t[3]&t[4]&t[5] < 0x80 {
		return s, 0
	}
	s.Timestamp = int64(t[1]&0x7f) | int64(t[2]&0x7f)<<7 | int64(t[3]&0x7f)<<14 |
		int64(t[4]&0x7f)<<21 | int64(t[5]&0x7f)<<28 | int64(t[6])<<35
	return s, size
}

// reader is a cursor over a message, which is b[pos:end]. After a fault its
// message is empty, so loops over fields end by themselves.
type reader struct {
	b        []byte
	pos      int
	end      int
	faultPos int
	fault    string
}

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireStart   = 3
	wireEnd     = 4
	wireFixed32 = 5
)

func (r *reader) fail(pos int, fault string) {
	if r.fault == "" {
		r.fault, r.faultPos = fault, pos
	}
	r.pos = r.end
}

// adopt takes over the fault of a reader of an embedded message.
func (r *reader) adopt(inner *reader) {
	if inner.fault != "" {
		r.fail(inner.faultPos, inner.fault)
	}
}

func (r *reader) varint() uint64 {
	if r.pos < r.end && r.b[r.pos] < 0x80 {
		v := r.b[r.pos]
		r.pos++
		return uint64(v)
	}
	return r.longVarint()
}

// longVarint reads up to ten bytes; excess bits of the tenth are dropped, as
// protobuf implementations do.
func (r *reader) longVarint() uint64 {
	v := uint64(0)
	for i := range 10 {
		if r.pos+i >= r.end {
			r.fail(r.pos, "the number is cut off")
			return 0
		}
		c := r.b[r.pos+i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.pos += i + 1
			return v
		}
	}
	r.fail(r.pos, "the number is longer than 10 bytes")
	return 0
}

// tag reads a field number and wire type. The field is 0 after a fault.
func (r *reader) tag() (field int, wire int) {
	at := r.pos
	v := r.varint()
	field = int(int32(v >> 3))
	if field <= 0 {
		r.fail(at, "the field number is not positive")
		return 0, 0
	}
	return field, int(v & 7)
}

// bytes reads a length and returns the bounds of that many bytes.
func (r *reader) bytes(wire int, what string) (start, end int) {
	if wire != wireBytes {
		r.fail(r.pos, "the "+what+" has a wrong wire type")
		return r.end, r.end
	}
	at := r.pos
	n := r.varint()
	if n > uint64(r.end-r.pos) {
		r.fail(at, "the "+what+" is cut off")
		return r.end, r.end
	}
	start = r.pos
	r.pos += int(n)
	return start, r.pos
}

// message returns a reader of an embedded message.
func (r *reader) message(wire int, what string) reader {
	start, end := r.bytes(wire, what)
	return reader{b: r.b, pos: start, end: end}
}

func (r *reader) string(wire int, what string) string {
	start, end := r.bytes(wire, what)
	return bytesutil.String(r.b[start:end])
}

func (r *reader) label(wire int) Label {
	m := r.message(wire, "label")
	var l Label
	for m.pos < m.end {
		field, wire := m.tag()
		switch field {
		case 1:
			l.Name = m.string(wire, "label name")
		case 2:
			l.Value = m.string(wire, "label value")
		default:
			m.skip(field, wire)
		}
	}
	r.adopt(&m)
	return l
}

func (r *reader) sample(wire int) Sample {
	m := r.message(wire, "sample")
	var s Sample
	for m.pos < m.end {
		field, wire := m.tag()
		switch {
		case field == 1 && wire == wireFixed64:
			s.Value = math.Float64frombits(m.fixed64())
		case field == 2 && wire == wireVarint:
			s.Timestamp = int64(m.varint())
		case field == 3 && wire == wireVarint:
			s.Start = int64(m.varint())
		case field == 1 || field == 2:
			m.fail(m.pos, "the sample has a wrong wire type")
		default:
			m.skip(field, wire)
		}
	}
	r.adopt(&m)
	return s
}

func (r *reader) fixed64() uint64 {
	if r.end-r.pos < 8 {
		r.fail(r.pos, "the value is cut off")
		return 0
	}
	b := r.b[r.pos : r.pos+8]
	r.pos += 8
	return binary.LittleEndian.Uint64(b)
}

// skip passes over the value of an unknown field. Groups, which protobuf no longer
// uses, are passed over with all they hold.
func (r *reader) skip(field, wire int) {
	if field == 0 {
		return // the tag was faulty already
	}
	depth := 0
	for {
		depth += r.skipValue(wire, depth)
		if depth == 0 || r.fault != "" {
			return
		}
		if r.pos >= r.end {
			r.fail(r.pos, "the group is not closed")
			return
		}
		_, wire = r.tag()
	}
}

// skipValue passes over one value and returns the change of the group depth.
func (r *reader) skipValue(wire, depth int) int {
	switch wire {
	case wireVarint:
		r.varint()
	case wireFixed64:
		r.fixed64()
	case wireBytes:
		r.bytes(wire, "unknown field")
	case wireFixed32:
		if r.end-r.pos < 4 {
			r.fail(r.pos, "the unknown field is cut off")
			return 0
		}
		r.pos += 4
	case wireStart:
		return 1
	case wireEnd:
		if depth > 0 {
			return -1
		}
		r.fail(r.pos, "a group ends which was not begun")
	default:
		r.fail(r.pos, "the wire type is unknown")
	}
	return 0
}
