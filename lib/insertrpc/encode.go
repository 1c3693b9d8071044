package insertrpc

import (
	"math"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// Bounds of one request. A batch which exceeds them is sent as several.
const (
	maxRequestBytes = 1 << 20
	maxRequestRows  = 64 << 10
	maxEntryRows    = 8 << 10
	// maxKeyBytes bounds a series key.
	maxKeyBytes = 1 << 20
	// maxReceivedRows bounds what a node takes in one request.
	maxReceivedRows = 2 * (maxRequestRows + maxEntryRows)
)

const flagReset = 1 << 0

// flagMetadata says that a request has descriptions of metrics instead of samples.
const flagMetadata = 1 << 1

// flagExemplars says that a request has exemplars instead of samples; only for nodes with CapabilityExemplars.
const flagExemplars = 1 << 3

// flagStarts says that a request has starts of series instead of samples; only for nodes with CapabilityStarts.
const flagStarts = 1 << 4

// position is a place in a batch.
type position struct {
	series int
	sample int
}

// encoder makes the body of one request from the samples of batches.
type encoder struct {
	dict        *senderDict
	space       uint64 // of the batch, as part of origins; 0 when its series are not numbered
	announced   int    // series announced in this request
	dst         []byte
	start       int // of the entries in dst
	rows        int
	nextRef     int64  // number expected next
	firstTime   int64  // first timestamp of the entry before
	delta       int64  // last difference of timestamps within an entry
	previousKey []byte // announced last in this request
}

// begin appends the flags.
func (e *encoder) begin(reset bool, flags byte) {
	if reset {
		flags |= flagReset
	}
	e.dst = append(e.dst, flags)
	e.start = len(e.dst)
}

// appendEntries appends entries beginning at p until the batch or the room in a request ends, and returns where
// the next request goes on. After an error the dictionary has series which the node has not.
func (e *encoder) appendEntries(b *model.Batch, p position) (position, error) {
	for p.series < b.Len() && len(e.dst)-e.start < maxRequestBytes && e.rows < maxRequestRows {
		samples := b.Samples(p.series)
		if p.sample >= len(samples) {
			p = position{series: p.series + 1}
			continue
		}
		n := min(len(samples)-p.sample, maxEntryRows)
		if more, err := e.appendEntry(b, p.series, samples[p.sample:p.sample+n]); !more {
			return p, err
		}
		p.sample += n
	}
	return p, nil
}

// appendEntry appends samples of one series; false when the dictionary is full, or on an error.
func (e *encoder) appendEntry(b *model.Batch, series int, samples []model.Sample) (bool, error) {
	many := uint64(0)
	if len(samples) > 1 {
		many = 1 << 1
	}
	ref, more, err := e.appendHead(b, series, many)
	if !more {
		return false, err
	}
	if many != 0 {
		e.dst = codec.AppendUvarint(e.dst, uint64(len(samples)))
	}
	e.appendSamples(&e.dict.entries[ref].last, samples)
	return true, nil
}

// appendHead appends which series an entry is about; false when the dictionary is full, or on an error.
func (e *encoder) appendHead(b *model.Batch, series int, many uint64) (ref uint32, more bool, err error) {
	var isNew, ok bool
	if number := b.Number(series); number != model.NoNumber && e.space != 0 {
		ref, isNew, ok = e.dict.lookupOrigin(e.space<<32 | uint64(number))
	} else {
		ref, isNew, ok = e.dict.lookupKey(b.Hash(series), b.Key(series))
	}
	if !ok {
		return 0, false, nil
	}
	if isNew {
		if err := e.announce(b.Key(series), many); err != nil {
			return 0, false, err
		}
	} else if distance := int64(ref) - e.nextRef; distance == 0 {
		e.dst = append(e.dst, byte(many))
	} else {
		e.dst = codec.AppendUvarint(e.dst, codec.ZigZag(distance)<<2|many)
	}
	e.nextRef = int64(ref) + 1
	return ref, true, nil
}

// announce appends the head of an entry with a key.
func (e *encoder) announce(key []byte, many uint64) error {
	if len(key) > maxKeyBytes {
		return errkind.New(errkind.BadRequest, "cannot send series with a key of %d bytes: at most %d are allowed; send shorter labels", len(key), maxKeyBytes)
	}
	shared := sharedPrefix(e.previousKey, key)
	e.dst = codec.AppendUvarint(e.dst, uint64(shared)<<2|many|1)
	e.dst = codec.AppendBytes(e.dst, key[shared:])
	e.previousKey = key
	e.announced++
	return nil
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
