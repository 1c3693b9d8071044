package histogramtest

import (
	"math"
	"math/rand/v2"
	"slices"

	nh "vmcluster/lib/nativehistogram"
)

// Kind is what a series of histograms is like.
type Kind int

// The kinds.
const (
	Whole           Kind = iota // a counter with exponential bounds, as most are
	Fractional                  // the same with fractional counts
	Gauge                       // counts go up and down
	GaugeFractional             // the same with fractional counts
	Custom                      // a counter with bounds of its own
	CustomFractional

	Kinds = 6
)

// Source makes the histograms of one series, one after the other.
type Source struct {
	rng     *rand.Rand
	kind    Kind
	h       nh.Histogram // without buckets
	buckets [2]map[int32]float64
	zero    float64
	sum     float64
	center  float64
	spread  float64
	rate    int // observations between two histograms, at most
	Resets  int // one of so many histograms starts anew; 0 for none. New sets 50
}

// New returns a source which uses rng.
func New(rng *rand.Rand, kind Kind) *Source {
	s := &Source{rng: rng, kind: kind, center: rng.Float64()*6 - 3, spread: 0.2 + rng.Float64(), rate: 1 + rng.IntN(40), Resets: 50}
	s.h.Float = kind == Fractional || kind == GaugeFractional || kind == CustomFractional
	if s.gauge() {
		s.h.Hint = nh.Gauge
	}
	if kind == Custom || kind == CustomFractional {
		s.h.Schema = nh.CustomBuckets
		bound := 0.005
		for range 1 + rng.IntN(12) {
			s.h.CustomValues = append(s.h.CustomValues, bound)
			bound *= 1 + float64(1+rng.IntN(6))/4
		}
	} else {
		s.h.Schema = int32(rng.IntN(8)) - 3
		s.h.ZeroThreshold = math.Ldexp(1, -128)
		if rng.IntN(4) == 0 {
			s.h.ZeroThreshold = 0.001
		}
	}
	s.reset()
	return s
}

func (s *Source) gauge() bool { return s.kind == Gauge || s.kind == GaugeFractional }

func (s *Source) reset() {
	s.buckets = [2]map[int32]float64{{}, {}}
	s.zero, s.sum = 0, 0
}

// Next returns the next histogram, which is the caller's.
func (s *Source) Next() *nh.Histogram {
	hint := s.h.Hint
	if s.Resets > 0 && s.rng.IntN(s.Resets) == 0 {
		s.reset()
		if !s.gauge() {
			hint = nh.Reset
		}
	}
	if s.gauge() {
		for _, m := range s.buckets {
			for _, index := range sorted(m) {
				m[index] = math.Floor(m[index] * s.rng.Float64())
			}
		}
	}
	for range s.rng.IntN(s.rate + 1) {
		s.observe()
	}
	return s.histogram(hint)
}

// Payload returns the payload of the next histogram.
func (s *Source) Payload() []byte { return s.Next().Append(nil) }

func (s *Source) observe() {
	v := math.Exp(s.center + s.spread*s.rng.NormFloat64())
	n := 1.0
	if s.h.Float {
		n = math.Round(s.rng.Float64()*16) / 8
	}
	s.sum += v * n
	if s.h.Schema == nh.CustomBuckets {
		i, _ := slices.BinarySearch(s.h.CustomValues, v)
		s.buckets[0][int32(i)] += n
		return
	}
	if v <= s.h.ZeroThreshold || s.rng.IntN(50) == 0 {
		s.zero += n
		return
	}
	index := int32(math.Ceil(math.Ldexp(math.Log2(v), int(s.h.Schema))))
	if sign := s.rng.IntN(20) / 19; sign == 1 && s.center > 1 {
		s.buckets[1][index] += n
		return
	}
	s.buckets[0][index] += n
}

func sorted(m map[int32]float64) []int32 {
	indexes := make([]int32, 0, len(m))
	for i := range m {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	return indexes
}

func (s *Source) histogram(hint nh.ResetHint) *nh.Histogram {
	h := s.h
	h.CustomValues = slices.Clone(s.h.CustomValues)
	h.Hint, h.Sum = hint, s.sum
	total := s.zero
	for sign, b := range [2]*nh.Buckets{&h.Positive, &h.Negative} {
		total += s.fill(b, s.buckets[sign])
	}
	if h.Float {
		h.FloatZero, h.FloatCount = s.zero, total
	} else {
		h.ZeroCount, h.Count = uint64(s.zero), uint64(total)
	}
	return &h
}

// fill makes the spans and counts of one sign. As client libraries do, it bridges gaps of two buckets or less.
func (s *Source) fill(b *nh.Buckets, counts map[int32]float64) (total float64) {
	add := func(n float64) {
		total += n
		if s.h.Float {
			b.Floats = append(b.Floats, n)
		} else {
			b.Counts = append(b.Counts, uint64(n))
		}
	}
	next := int32(0) // index behind the last bucket
	for _, index := range sorted(counts) {
		switch gap := index - next; {
		case len(b.Spans) > 0 && gap <= 2:
			for range gap {
				add(0)
			}
			b.Spans[len(b.Spans)-1].Length += uint32(gap + 1)
		default:
			b.Spans = append(b.Spans, nh.Span{Offset: gap, Length: 1})
		}
		add(counts[index])
		next = index + 1
	}
	return total
}

// Latencies makes of a new source one of response times: some 60 buckets, most observations in the middle of them.
func (s *Source) Latencies() {
	s.h.Schema, s.h.ZeroThreshold = 3, math.Ldexp(1, -128)
	s.center, s.spread, s.rate = -3, 0.9, 60
}
