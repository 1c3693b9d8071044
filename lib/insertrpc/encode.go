package insertrpc

import (
	"math"

	"vmcluster/lib/codec"
	"vmcluster/lib/model"
)

// Bounds of one request. A batch which exceeds them is sent as several.
const (
	maxRequestBytes = 1 << 20
	maxRequestRows  = 64 << 10
	maxEntryRows    = 8 << 10
	// maxKeyBytes bounds a series key.
	maxKeyBytes = 1 << 20
)

const flagReset = 1 << 0

// position is a place in a batch.
type position struct {
	series int
	sample int
}

// encoder makes the body of one request from the samples of a batch.
type encoder struct {
	dict        *senderDict
	dst         []byte
	rows        int
	nextRef     int64  // number expected next
	firstTime   int64  // first timestamp of the entry before
	delta       int64  // last difference of timestamps within an entry
	previousKey []byte // announced last in this request
}

// appendBody appends flags and entries beginning at p until the batch or the room in a
// request ends, and returns where the next request goes on.
func (e *encoder) appendBody(b *model.Batch, p position, reset bool) position {
	flags := byte(0)
	if reset {
		flags |= flagReset
	}
	e.dst = append(e.dst, flags)
	start := len(e.dst)
	for p.series < b.Len() && len(e.dst)-start < maxRequestBytes && e.rows < maxRequestRows {
		samples := b.Samples(p.series)
		if p.sample >= len(samples) {
			p = position{series: p.series + 1}
			continue
		}
		n := min(len(samples)-p.sample, maxEntryRows)
		if !e.appendEntry(b.Hash(p.series), b.Key(p.series), samples[p.sample:p.sample+n]) {
			break
		}
		p.sample += n
	}
	return p
}

// appendEntry appends samples of one series; false when the dictionary is full.
func (e *encoder) appendEntry(hash uint64, key []byte, samples []model.Sample) bool {
	ref, isNew, ok := e.dict.lookup(hash, key)
	if !ok {
		return false
	}
	many := uint64(0)
	if len(samples) > 1 {
		many = 1 << 1
	}
	if isNew {
		shared := sharedPrefix(e.previousKey, key)
		e.dst = codec.AppendUvarint(e.dst, uint64(shared)<<2|many|1)
		e.dst = codec.AppendBytes(e.dst, key[shared:])
		e.previousKey = key
	} else {
		e.dst = codec.AppendUvarint(e.dst, codec.ZigZag(int64(ref)-e.nextRef)<<2|many)
	}
	e.nextRef = int64(ref) + 1
	if many != 0 {
		e.dst = codec.AppendUvarint(e.dst, uint64(len(samples)))
	}
	e.appendSamples(&e.dict.entries[ref].last, samples)
	return true
}

func (e *encoder) appendSamples(last *uint64, samples []model.Sample) {
	dst, bits := e.dst, *last
	previous := e.firstTime
	e.firstTime = samples[0].Timestamp
	for i := range samples {
		s := &samples[i]
		delta := s.Timestamp - previous
		previous = s.Timestamp
		if i > 0 {
			delta, e.delta = delta-e.delta, delta
		}
		if u := codec.ZigZag(delta); u < 0x80 {
			dst = append(dst, byte(u))
		} else {
			dst = codec.AppendUvarint(dst, u)
		}
		value := math.Float64bits(s.Value)
		dst = appendValue(dst, bits, value)
		bits = value
	}
	e.dst, *last = dst, bits
	e.rows += len(samples)
}

func sharedPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
