package prompb

import "vmcluster/lib/errkind"

// NextRaw moves to the next series as Next does. It leaves the labels undecoded when it can: At then has
// none, and a fault in them shows when Labels is called.
func (d *Decoder[L]) NextRaw() bool {
	d.guessed = false
	if d.err != nil || d.pos >= len(d.body) || d.body[d.pos] != 1<<3|wireBytes {
		return d.Next()
	}
	start, n := shortLength(d.body[d.pos+1:])
	start += d.pos + 1
	end := start + n
	if n < 0 || end > len(d.body) || !d.walk(start, end) {
		return d.Next()
	}
	d.pos, d.start, d.lazy = end, start, true
	d.series.Labels = d.series.Labels[:0]
	return true
}

// NextGuess is NextRaw, but it may guess that the series is label fields and one plain sample at its end: then Guessed is true, and
// Raw is everything before that. The guess is right when these bytes are known to be label fields. Otherwise Settle must follow
// before anything else is asked.
func (d *Decoder[L]) NextGuess() bool {
	if d.err != nil || d.pos >= len(d.body) || d.body[d.pos] != 1<<3|wireBytes {
		return d.Next()
	}
	size, n := shortLength(d.body[d.pos+1:])
	start := d.pos + 1 + size
	end := start + n
	if n < 0 || end > len(d.body) {
		return d.Next()
	}
	s, tail := sampleAtEnd(d.body[start:end])
	if tail == 0 {
		return d.NextRaw()
	}
	d.before, d.pos, d.start, d.lazy, d.guessed = d.pos, end, start, true, true
	d.raw = span{start, end - tail}
	d.series.Labels, d.series.Samples = d.series.Labels[:0], append(d.series.Samples[:0], s)
	d.histograms, d.exemplars = d.histograms[:0], d.exemplars[:0]
	return true
}

// sampleAtEnd reads what may be a plain sample at the end of a series.
func sampleAtEnd(b []byte) (s Sample, size int) {
	const whole, withoutValue = 18, 9
	for _, size := range [2]int{whole, withoutValue} {
		if len(b) < size {
			continue
		}
		if s, n := plainSample(b[len(b)-size:]); n == size {
			return s, size
		}
	}
	return s, 0
}

// Guessed reports whether the current series is a guess of NextGuess.
func (d *Decoder[L]) Guessed() bool { return d.guessed }

// Settle takes back a guess and reads the series as NextRaw does; false when it cannot be decoded.
func (d *Decoder[L]) Settle() bool {
	d.pos, d.guessed = d.before, false
	return d.NextRaw()
}

// shortLength reads a length of at most three bytes and returns how many it takes; n is negative for anything else.
func shortLength(b []byte) (size, n int) {
	switch {
	case len(b) > 0 && b[0] < 0x80:
		return 1, int(b[0])
	case len(b) > 1 && b[1] < 0x80:
		return 2, int(b[0]&0x7f) | int(b[1])<<7
	case len(b) > 2 && b[2] < 0x80:
		return 3, int(b[0]&0x7f) | int(b[1]&0x7f)<<7 | int(b[2])<<14
	}
	return 0, -1
}

// walk reads a series which is label fields, then plain samples and native histograms; false when it is anything else, and then
// nothing has changed but the scratch of samples and histograms.
func (d *Decoder[L]) walk(start, end int) bool {
	b := d.body[:end]
	p := start
	for p+1 < len(b) && b[p] == 1<<3|wireBytes {
		n := int(b[p+1])
		p += 2
		if n >= 0x80 {
			if p >= len(b) || b[p] >= 0x80 {
				return false
			}
			n = n&0x7f | int(b[p])<<7
			p++
		}
		p += n
	}
	if p > len(b) {
		return false
	}
	raw := span{start, p}
	samples := d.series.Samples[:0]
	d.histograms, d.exemplars = d.histograms[:0], d.exemplars[:0]
	for p < len(b) {
		s, n := plainSample(b[p:])
		switch {
		case n > 0:
			samples = append(samples, s)
			p += n
		case b[p] == 4<<3|wireBytes:
			size, n := shortLength(b[p+1:])
			at := p + 1 + size
			if p = at + n; n < 0 || p > len(b) || len(d.histograms) >= freeSamples {
				return false
			}
			d.histograms = append(d.histograms, span{at, p})
		default:
			return false
		}
	}
	d.raw, d.series.Samples = raw, samples
	return true
}

// Raw returns where the label fields of the current series are in the body, when they are one run of bytes at its
// front; else start equals end. Equal bytes are equal labels in the same order.
func (d *Decoder[L]) Raw() (start, end int) { return d.raw.start, d.raw.end }

// Labels returns the labels of the current series as At does, decoded if they were not yet; false when they cannot
// be, which ends the walk.
func (d *Decoder[L]) Labels() ([]L, bool) {
	if !d.lazy {
		return d.series.Labels, d.err == nil
	}
	d.lazy = false
	outer := reader{b: d.body, pos: d.pos, end: len(d.body)}
	ok := d.readSeries(reader{b: d.body, pos: d.start, end: d.pos}, &outer)
	d.finish(&outer)
	return d.series.Labels, ok
}

// AppendLabels appends the labels of label fields as Raw tells where they are. The strings alias raw. An error means
// that raw is something else, and is of kind BadRequest.
func AppendLabels[L ~struct{ Name, Value string }](dst []L, raw []byte) ([]L, error) {
	r := reader{b: raw, end: len(raw)}
	for r.pos < r.end {
		if l, n := plainLabel(r.b[r.pos:r.end]); n > 0 {
			dst = append(dst, L(l))
			r.pos += n
			continue
		}
		field, wire := r.tag()
		if field != 1 {
			r.fail(r.pos, "it is not a label")
			break
		}
		dst = append(dst, L(r.label(wire)))
	}
	if r.fault != "" {
		return dst, errkind.New(errkind.BadRequest, "cannot decode labels of %d bytes at offset %d: %s", len(raw), r.faultPos, r.fault)
	}
	return dst, nil
}
