package prompb

import (
	"encoding/binary"
	"math"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

// MetadataV2 says what the metric of a series is. Its texts are symbols of the request.
type MetadataV2 struct {
	Type uint64 // as in a Metadata
	Help uint32 // symbol
	Unit uint32 // symbol
}

// DecoderV2 walks over the series of a Request of remote write 2.0, as a Decoder does over those of a WriteRequest.
//
//	d.Reset(body)
//	for d.Next() { use(d.Refs(), d.Samples(), d.Metadata()) }
//	err := d.Err()
//
// Labels are pairs of references to symbols. Who has seen them before compares Raw and does without Refs. Samples, symbols and
// references have the bounds and the ownership that the parts of a series have in a Decoder.
type DecoderV2 struct {
	body     []byte
	pos      int
	symbols  []symbol
	refs     []uint32
	lazy     bool // the references have not been decoded
	raw      span // of the references
	samples  []Sample
	metadata span
	skipped  Skipped
	err      error

	histograms []span // of the messages of the series
	exemplars  []span // likewise
}

// symbol is where a text is in the body.
type symbol struct{ start, size uint32 }

// A symbol of an honest sender is part of a series with a sample, so there are fewer of them than a body has bytes.
const (
	freeSymbols    = 1 << 16
	minSymbolBytes = 8 // on average, with the series that name it
	keptSymbols    = 1 << 17
	maxBodyV2      = 1<<32 - 1
)

// Reset starts over with a new body, which is read until the last use of a series or symbol. Reset(nil) drops all references to
// the body.
func (d *DecoderV2) Reset(body []byte) {
	if cap(d.symbols) > keptSymbols {
		d.symbols = nil
	}
	if cap(d.refs) > 2*keptLabels {
		d.refs = nil
	}
	if cap(d.samples) > keptSamples {
		d.samples = nil
	}
	if cap(d.histograms) > keptSamples {
		d.histograms = nil
	}
	if cap(d.exemplars) > keptSamples {
		d.exemplars = nil
	}
	*d = DecoderV2{body: body, symbols: d.symbols[:0], refs: d.refs[:0], samples: d.samples[:0], histograms: d.histograms[:0], exemplars: d.exemplars[:0]}
	d.readSymbols()
}

// readSymbols finds the symbols, wherever they are among the fields of the request.
func (d *DecoderV2) readSymbols() {
	r := reader{b: d.body, end: len(d.body)}
	if len(d.body) > maxBodyV2 {
		r.fail(0, "it is larger than 4 GiB")
	}
	most := freeSymbols + len(d.body)/minSymbolBytes
	for r.pos < r.end {
		at := r.pos
		field, wire := r.tag()
		if wire != wireBytes || field != 4 && field != 5 {
			r.skip(field, wire)
			continue
		}
		start, end := r.bytes(wire, "symbol or series")
		if field == 5 {
			continue
		}
		if len(d.symbols) == most {
			r.fail(at, "it has too many symbols")
			break
		}
		d.symbols = append(d.symbols, symbol{uint32(start), uint32(end - start)})
	}
	d.finish(&r, 0)
}

// Symbols returns how many symbols the request has.
func (d *DecoderV2) Symbols() int { return len(d.symbols) }

// Symbol returns a symbol, which is a part of the body.
func (d *DecoderV2) Symbol(i uint32) string {
	s := d.symbols[i]
	return bytesutil.String(d.body[s.start : s.start+s.size])
}

// Samples returns the samples of the current series, which are valid until the next call of Next or Reset.
func (d *DecoderV2) Samples() []Sample { return d.samples }

// Raw returns where the references of the current series are in the body, when they are one packed field; else start equals end.
// They are what NextRef reads. A fault in them shows when Refs is called.
func (d *DecoderV2) Raw() (start, end int) { return d.raw.start, d.raw.end }

// Refs returns the references to the names and values of the labels in turn, as sent: neither sorted nor checked; false when they cannot be
// decoded, which ends the walk. They are valid until the next call of Next or Reset.
func (d *DecoderV2) Refs() ([]uint32, bool) {
	if d.lazy {
		d.lazy = false
		r := reader{b: d.body, pos: d.raw.start, end: d.raw.end}
		d.refs = r.refs(d.refs[:0])
		d.finish(&r, d.pos)
	}
	return d.refs, d.err == nil
}

// RawMetadata returns the bytes of the description of the metric of the current series. Within a request, equal bytes are equal descriptions.
func (d *DecoderV2) RawMetadata() []byte { return d.body[d.metadata.start:d.metadata.end] }

// Metadata returns the description of the metric of the current series. One which cannot be read is empty, since samples do not depend
// on it.
func (d *DecoderV2) Metadata() MetadataV2 {
	r := reader{b: d.body, pos: d.metadata.start, end: d.metadata.end}
	m := r.metadataV2()
	if r.fault != "" {
		return MetadataV2{}
	}
	return m
}

// Err returns what ended the walk early, of kind BadRequest, or nil.
func (d *DecoderV2) Err() error { return d.err }

// Skipped returns what was skipped so far.
func (d *DecoderV2) Skipped() Skipped { return d.skipped }

// Next moves to the next series; false at the end or on an error.
func (d *DecoderV2) Next() bool {
	for d.err == nil && d.pos < len(d.body) {
		if d.nextPlain() {
			return true
		}
		r := reader{b: d.body, pos: d.pos, end: len(d.body)}
		field, wire := r.tag()
		if field != 5 {
			r.skip(field, wire)
			d.finish(&r, r.pos)
			continue
		}
		m := r.message(wire, "time series")
		d.readSeries(&m)
		r.adopt(&m)
		d.finish(&r, r.pos)
		return d.err == nil
	}
	return false
}

// nextPlain moves to the next series if it has the form which encoders write nearly always: references, one plain sample, and metadata.
func (d *DecoderV2) nextPlain() bool {
	b := d.body[d.pos:]
	if b[0] != 5<<3|wireBytes {
		return false
	}
	size, n := shortLength(b[1:])
	start, end := 1+size, 1+size+n
	if n < 2 || end > len(b) || b[start] != 1<<3|wireBytes || b[start+1] >= 0x80 {
		return false
	}
	refs := start + 2
	p := refs + int(b[start+1])
	if p > end {
		return false
	}
	raw := span{d.pos + refs, d.pos + p}
	sample, n := plainSample(b[p:end])
	if n == 0 {
		sample, n = startedSample(b[p:end])
	}
	if p += n; n == 0 {
		return false
	}
	metadata := span{}
	if p < end {
		if end-p < 2 || b[p] != 5<<3|wireBytes || int(b[p+1]) != end-p-2 {
			return false
		}
		metadata = span{d.pos + p + 2, d.pos + end}
	}
	d.pos, d.raw, d.lazy, d.metadata, d.samples = d.pos+end, raw, true, metadata, append(d.samples[:0], sample)
	d.histograms, d.exemplars = d.histograms[:0], d.exemplars[:0]
	return true
}

// startedSample is plainSample for one with a start timestamp, as long as the other one.
func startedSample(b []byte) (s Sample, size int) {
	const timeField, valueField = 1 + 6, 1 + 8
	if len(b) < 3+2*timeField || b[0] != 2<<3|wireBytes {
		return s, 0
	}
	size = 2 + int(b[1])
	switch {
	case size > len(b):
		return s, 0
	case b[1] == valueField+2*timeField && b[2] == 1<<3|wireFixed64:
		s.Value = math.Float64frombits(binary.LittleEndian.Uint64(b[3:]))
	case b[1] != 2*timeField:
		return s, 0
	}
	var ok, okStart bool
	s.Timestamp, ok = plainTime(b[size-2*timeField:size-timeField], 2)
	s.Start, okStart = plainTime(b[size-timeField:size], 3)
	if !ok || !okStart {
		return s, 0
	}
	return s, size
}

// plainTime reads a field with a timestamp of six bytes.
func plainTime(b []byte, field byte) (ms int64, ok bool) {
	if b[0] != field<<3|wireVarint || b[6] >= 0x80 || b[1]&b[2]&b[3]&b[4]&b[5] < 0x80 {
		return 0, false
	}
	return int64(b[1]&0x7f) | int64(b[2]&0x7f)<<7 | int64(b[3]&0x7f)<<14 | int64(b[4]&0x7f)<<21 | int64(b[5]&0x7f)<<28 | int64(b[6])<<35, true
}

// finish takes over position and fault of a reader of the body.
func (d *DecoderV2) finish(r *reader, pos int) {
	d.pos = pos
	if r.fault != "" {
		d.err = errkind.New(errkind.BadRequest, "cannot decode remote write 2.0 request of %d bytes at offset %d: %s", len(d.body), r.faultPos, r.fault)
	}
}

// readSeries reads one TimeSeries message.
func (d *DecoderV2) readSeries(r *reader) {
	d.refs, d.samples, d.raw, d.metadata, d.lazy = d.refs[:0], d.samples[:0], span{}, span{}, false
	d.histograms, d.exemplars = d.histograms[:0], d.exemplars[:0]
	mostSamples := freeSamples + (r.end-r.pos)/minSampleBytes
	fields := 0 // of references
	for r.pos < r.end {
		if len(d.samples)+len(d.histograms)+len(d.exemplars) > mostSamples {
			r.fail(r.pos, "the series has samples without time and value")
			break
		}
		field, wire := r.tag()
		switch field {
		case 1:
			d.readRefs(r, wire)
			fields++
		case 2:
			d.samples = append(d.samples, r.sample(wire))
		case 3:
			d.histograms = r.appendMessage(d.histograms, wire, "histogram")
		case 4:
			d.exemplars = r.appendMessage(d.exemplars, wire, "exemplar")
		case 5:
			d.metadata.start, d.metadata.end = r.bytes(wire, "metadata")
		default:
			r.skip(field, wire)
		}
	}
	if fields > 1 {
		d.raw = span{}
	}
}

// readRefs reads the references of a field, which is a packed list or a single one.
func (d *DecoderV2) readRefs(r *reader, wire int) {
	if wire == wireVarint {
		d.refs = append(d.refs, uint32(r.varint()))
	} else {
		m := r.message(wire, "label references")
		d.raw = span{m.pos, m.end}
		d.refs = m.refs(d.refs)
		r.adopt(&m)
	}
	if len(d.refs) > 2*maxLabels {
		r.fail(r.pos, "the series has too many labels")
	}
}

// refs appends all references, or some more than there may be.
func (r *reader) refs(dst []uint32) []uint32 {
	for r.pos < r.end && len(dst) <= 2*maxLabels {
		dst = append(dst, uint32(r.varint()))
	}
	return dst
}

// NextRef returns the reference at p in bytes as Raw tells where they are, and where the next one is. Of bytes that are no reference
// it makes one that no symbol has.
func NextRef(raw []byte, p int) (ref uint32, next int) {
	if c := raw[p]; c < 0x80 {
		return uint32(c), p + 1
	}
	return longRef(raw, p)
}

func longRef(raw []byte, p int) (ref uint32, next int) {
	if p+1 < len(raw) && raw[p+1] < 0x80 {
		return uint32(raw[p]&0x7f) | uint32(raw[p+1])<<7, p + 2
	}
	r := reader{b: raw, pos: p, end: len(raw)}
	if ref = uint32(r.varint()); r.fault != "" {
		ref = math.MaxUint32
	}
	return ref, r.pos
}

func (r *reader) metadataV2() (m MetadataV2) {
	for r.pos < r.end {
		field, wire := r.tag()
		switch {
		case field == 1 && wire == wireVarint:
			m.Type = r.varint()
		case field == 3 && wire == wireVarint:
			m.Help = uint32(r.varint())
		case field == 4 && wire == wireVarint:
			m.Unit = uint32(r.varint())
		default:
			r.skip(field, wire)
		}
	}
	return m
}
