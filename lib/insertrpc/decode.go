package insertrpc

import (
	"encoding/binary"
	"math"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
)

// decoder reads the bodies of the requests of one connection, in order.
type decoder struct {
	dict      receiverDict
	labels    []model.Label             // scratch
	histogram nativehistogram.Histogram // scratch
	key       []byte                    // scratch: the key announced last
	state     decodeState
}

// decodeState is what the entries of one request share.
type decodeState struct {
	nextRef   int64
	firstTime int64
	delta     int64
}

// decode reads the entries of a request, which is empty. Errors are of kind Corrupt, and neither
// the decoder nor the request must be used after one.
func (d *decoder) decode(src []byte, r *received) error {
	if len(src) == 0 {
		return errkind.New(errkind.Corrupt, "cannot decode insert request: it is empty")
	}
	if src[0]&^(flagReset|flagHistograms) != 0 {
		return errkind.New(errkind.Corrupt, "cannot decode insert request with unknown flags %#x", src[0])
	}
	if src[0]&flagReset != 0 {
		d.dict.reset()
	}
	d.state, d.key = decodeState{}, d.key[:0]
	space := d.dict.begin()
	r.batch.SetSpace(space.space, &r.series)
	histograms := src[0]&flagHistograms != 0
	src = src[1:]
	for len(src) > 0 {
		ref, count, tail, err := d.decodeHead(src)
		if err != nil {
			return err
		}
		if r.batch.Rows()+count > maxReceivedRows {
			return errkind.New(errkind.Corrupt, "cannot take insert request of more than %d samples", maxReceivedRows)
		}
		e := &d.dict.series.entries[ref]
		r.keyBytes += e.keyBytes()
		r.batch.AddNumbered(ref, e.hash, 0)
		if histograms {
			src, err = d.decodeHistogram(tail, count, &r.batch)
		} else {
			src, err = d.decodeSamples(tail, ref, count, &r.batch)
		}
		if err != nil {
			return err
		}
	}
	r.series.snapshot(&d.dict.series)
	r.space = space
	space.users.Add(1)
	return nil
}

// decodeHead reads which series an entry is about and how many samples it has.
func (d *decoder) decodeHead(src []byte) (ref uint32, count int, tail []byte, err error) {
	known := len(d.dict.last)
	if src[0] == 0 && d.state.nextRef < int64(known) { // the series after the last one, with one sample
		d.state.nextRef++
		return uint32(d.state.nextRef - 1), 1, src[1:], nil
	}
	head, tail, err := codec.CutUvarint(src)
	if err != nil {
		return 0, 0, nil, err
	}
	next := d.state.nextRef + codec.UnZigZag(head>>2)
	if head&1 != 0 {
		next = int64(known)
		if tail, err = d.announce(tail, head>>2); err != nil {
			return 0, 0, nil, err
		}
	}
	if next < 0 || next >= int64(len(d.dict.last)) {
		return 0, 0, nil, errkind.New(errkind.Corrupt, "cannot find series %d: %d are announced", next, known)
	}
	d.state.nextRef = next + 1
	if head&2 == 0 {
		return uint32(next), 1, tail, nil
	}
	n, tail, err := codec.CutUvarint(tail)
	// Every sample takes two bytes at least.
	if err != nil || n > uint64(len(tail))/2 {
		return 0, 0, nil, errkind.New(errkind.Corrupt, "cannot read entry of %d samples from %d bytes", n, len(tail))
	}
	return uint32(next), int(n), tail, nil
}

// announce adds a series to the dictionary.
func (d *decoder) announce(src []byte, shared uint64) (tail []byte, err error) {
	suffix, tail, err := codec.CutBytes(src)
	if err != nil {
		return nil, err
	}
	if shared > uint64(len(d.key)) || int(shared)+len(suffix) > maxKeyBytes {
		return nil, errkind.New(errkind.Corrupt, "cannot announce series which shares %d bytes with a key of %d and adds %d", shared, len(d.key), len(suffix))
	}
	d.key = append(d.key[:shared], suffix...)
	if _, d.labels, err = model.ParseSeriesKey(d.labels[:0], d.key); err != nil {
		return nil, err
	}
	d.dict.add(model.HashSeriesKey(d.key), d.key)
	return tail, nil
}

func (d *decoder) decodeSamples(src []byte, ref uint32, count int, b *model.Batch) ([]byte, error) {
	previous, bits := d.state.firstTime, d.dict.last[ref]
	for i := range count {
		var u uint64
		if len(src) > 0 && src[0] < 0x80 {
			u, src = uint64(src[0]), src[1:]
		} else {
			n := 0
			if u, n = binary.Uvarint(src); n <= 0 {
				return nil, errkind.New(errkind.Corrupt, "cannot read timestamp %d of %d", i, count)
			}
			src = src[n:]
		}
		delta := codec.UnZigZag(u)
		if i > 0 {
			d.state.delta += delta
			delta = d.state.delta
		}
		previous += delta
		if i == 0 {
			d.state.firstTime = previous
		}
		value, size := cutValue(src, bits)
		if size == 0 {
			return nil, errkind.New(errkind.Corrupt, "cannot read value %d of %d", i, count)
		}
		src, bits = src[size:], value
		b.AddSample(previous, math.Float64frombits(bits))
	}
	d.dict.last[ref] = bits
	return src, nil
}
