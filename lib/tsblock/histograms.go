package tsblock

import (
	"slices"
	"sort"

	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
)

const (
	// MaxHistogramBytes bounds the payload of one native histogram.
	MaxHistogramBytes = nativehistogram.MaxPayloadBytes
	// maxBlockPayload is how many bytes of payloads a block of native histograms takes, as they are before they are encoded.
	maxBlockPayload = 1 << 20
)

// HistogramSamples are native histograms of a series: timestamps in Unix milliseconds, and as many payloads. The payloads that Append, DecodeHistograms
// and ReadHistograms add lie in memory of its own, which the next Reset takes back.
type HistogramSamples struct {
	Timestamps []int64
	Payloads   [][]byte

	buf    []byte // the newest chunk of payloads
	bytes  int    // of the chunks
	column nativehistogram.Column
}

// Len returns the number of histograms.
func (s *HistogramSamples) Len() int { return len(s.Timestamps) }

// HeapBytes returns about how much memory it holds.
func (s *HistogramSamples) HeapBytes() int { return s.bytes + 8*cap(s.Timestamps) + 24*cap(s.Payloads) }

// Reset empties it and keeps memory.
func (s *HistogramSamples) Reset() {
	s.truncate(0)
	s.buf, s.bytes = s.buf[:0], cap(s.buf)
}

// Append adds a histogram, whose payload is copied.
func (s *HistogramSamples) Append(timestamp int64, payload []byte) {
	if cap(s.buf)-len(s.buf) < len(payload) {
		s.buf = make([]byte, 0, max(1024, min(2*cap(s.buf), maxBlockPayload), len(payload)))
		s.bytes += cap(s.buf)
	}
	start := len(s.buf)
	s.buf = append(s.buf, payload...)
	s.Timestamps, s.Payloads = append(s.Timestamps, timestamp), append(s.Payloads, s.buf[start:len(s.buf):len(s.buf)])
}

func (s *HistogramSamples) truncate(n int) {
	clear(s.Payloads[n:])
	s.Timestamps, s.Payloads = s.Timestamps[:n], s.Payloads[:n]
}

// Slice returns the histograms from start up to end. They share memory with s.
func (s *HistogramSamples) Slice(start, end int) HistogramSamples {
	return HistogramSamples{Timestamps: s.Timestamps[start:end], Payloads: s.Payloads[start:end]}
}

// RemoveFront removes the first n.
func (s *HistogramSamples) RemoveFront(n int) {
	copy(s.Payloads, s.Payloads[n:])
	s.truncate(copy(s.Timestamps, s.Timestamps[n:]))
}

// BlockEnd returns up to where the histograms from start on go into one block.
func (s *HistogramSamples) BlockEnd(start int) int {
	size, end := 0, start
	for ; end < min(s.Len(), start+MaxSamplesPerBlock); end++ {
		if size += len(s.Payloads[end]); size > maxBlockPayload && end > start {
			break
		}
	}
	return end
}

// IsHalfABlock reports whether the histograms fill at least half a block.
func (s *HistogramSamples) IsHalfABlock() bool {
	size := 0
	for _, p := range s.Payloads {
		size += len(p)
	}
	return s.Len() >= MaxSamplesPerBlock/2 || size >= maxBlockPayload/2
}

// Sort sorts what is behind start by time. Of histograms at one time, the order stays.
func (s *HistogramSamples) Sort(start int) {
	if !slices.IsSorted(s.Timestamps[start:]) {
		tail := s.Slice(start, s.Len())
		sort.Stable((*histogramsByTime)(&tail))
	}
}

type histogramsByTime HistogramSamples

func (h *histogramsByTime) Len() int           { return len(h.Timestamps) }
func (h *histogramsByTime) Less(i, j int) bool { return h.Timestamps[i] < h.Timestamps[j] }
func (h *histogramsByTime) Swap(i, j int) {
	h.Timestamps[i], h.Timestamps[j] = h.Timestamps[j], h.Timestamps[i]
	h.Payloads[i], h.Payloads[j] = h.Payloads[j], h.Payloads[i]
}

// Dedup leaves one histogram per timestamp in s[start:], which must be sorted by time: the better one. With intervalMs > 0 only the newest of every
// bucket ((k-1)*intervalMs, k*intervalMs] stays.
func (s *HistogramSamples) Dedup(start int, intervalMs int64) {
	s.Thin(start, func(int64) int64 { return intervalMs })
}

// Thin is Dedup with an interval that depends on the time, but is the same for all times of a bucket.
func (s *HistogramSamples) Thin(start int, intervalMs func(timestamp int64) int64) {
	if s.Len()-start < 2 {
		return
	}
	last := start
	for i := start + 1; i < s.Len(); i++ {
		t, before := s.Timestamps[i], s.Timestamps[last]
		switch {
		case t == before:
			if nativehistogram.Better(s.Payloads[i], s.Payloads[last]) {
				s.Payloads[last] = s.Payloads[i]
			}
			continue
		case !sameBucket(before, t, intervalMs(before)):
			last++
		}
		s.Timestamps[last], s.Payloads[last] = t, s.Payloads[i]
	}
	s.truncate(last + 1)
}

func sameBucket(a, b, intervalMs int64) bool { return intervalMs > 1 && b <= bucketEnd(a, intervalMs) }

// AppendHistograms is AppendEncode for native histograms: those which go into one block, see BlockEnd.
func (e *Encoder) AppendHistograms(dst []byte, s *HistogramSamples) ([]byte, Block) {
	n := s.Len()
	invariants.Check(n > 0 && n <= MaxSamplesPerBlock && len(s.Payloads) == n, "block of %d timestamps and %d histograms", n, len(s.Payloads))
	b := Block{MinTimestamp: s.Timestamps[0], MaxTimestamp: s.Timestamps[n-1], Count: n}
	start := len(dst)
	dst = e.appendTimestamps(dst, &b, s.Timestamps)
	middle := len(dst)
	dst = e.histograms.AppendColumn(append(dst, contentMark|byte(Histograms)), s.Payloads)
	b.Timestamps, b.Values = dst[start:middle:middle], dst[middle:len(dst):len(dst)]
	return dst, b
}

// AppendHistogramBlocks encodes sorted histograms into as many blocks as they take, which it appends to blocks.
func (e *Encoder) AppendHistogramBlocks(blocks []Block, dst []byte, s *HistogramSamples) ([]Block, []byte) {
	for start := 0; start < s.Len(); {
		end := s.BlockEnd(start)
		run := s.Slice(start, end)
		var b Block
		dst, b = e.AppendHistograms(dst, &run)
		blocks = append(blocks, b)
		start = end
	}
	return blocks, dst
}

// DecodeHistograms appends the native histograms of a block of content Histograms to dst. A damaged block is an error of kind Corrupt, and dst is then unchanged.
func (b *Block) DecodeHistograms(dst *HistogramSamples) error {
	if b.Content() != Histograms {
		return errkind.New(errkind.Corrupt, "cannot decode histograms of block %s: its content is %d", b, b.Content())
	}
	start := dst.Len()
	timestamps, err := b.DecodeTimestamps(dst.Timestamps)
	if err != nil {
		return err
	}
	if err := dst.decodePayloads(b.Values[1:], timestamps[start:]); err != nil {
		dst.truncate(start)
		return err
	}
	return nil
}

// ReadHistograms is ReadRange for native histograms. Blocks of other content are left out.
func ReadHistograms(dst *HistogramSamples, blocks []Block, r model.TimeRange, minIntervalMs int64, scratch *Scratch) error {
	start := dst.Len()
	blocks = scratch.inRange(blocks, r, true)
	defer func() { clear(scratch.blocks) }()
	for i := range blocks {
		b := &blocks[i]
		first := dst.Len()
		if err := b.DecodeHistograms(dst); err != nil {
			dst.truncate(start)
			return err
		}
		if b.MinTimestamp < r.Min || b.MaxTimestamp > r.Max {
			dst.cut(first, r)
		}
	}
	dst.Sort(start)
	dst.Dedup(start, 0)
	if n := dst.Len(); minIntervalMs > 0 {
		dst.Dedup(start, minIntervalMs)
		scratch.removed += n - dst.Len()
	}
	return nil
}

// cut removes what is outside of r from s[start:], which is sorted.
func (s *HistogramSamples) cut(start int, r model.TimeRange) {
	tail := s.Timestamps[start:]
	from := sort.Search(len(tail), func(i int) bool { return tail[i] >= r.Min })
	to := max(from, sort.Search(len(tail), func(i int) bool { return tail[i] > r.Max }))
	copy(tail, tail[from:to])
	copy(s.Payloads[start:], s.Payloads[start+from:start+to])
	s.truncate(start + to - from)
}

func (s *HistogramSamples) decodePayloads(src []byte, timestamps []int64) error {
	if err := nativehistogram.DecodeColumn(&s.column, src, len(timestamps)); err != nil {
		return err
	}
	for i, t := range timestamps {
		s.Append(t, s.column.Payloads[i])
	}
	return nil
}
