package model

import (
	"strconv"

	"vmcluster/lib/invariants"
)

func quote(s string) string { return strconv.Quote(s) }

// Sample is one measured value.
type Sample struct {
	Timestamp int64 // Unix time in milliseconds
	Value     float64
}

// Batch is a set of series with new samples on its way to storage. It holds
// everything in three flat arrays, so that a pooled batch costs no allocation
// and the garbage collector nothing to scan. The same series may occur more
// than once. The zero value is an empty batch.
//
// Ownership: a batch belongs to its creator. An Ingester may read it until
// Ingest returns and keeps nothing of it.
type Batch struct {
	series  []batchSeries
	samples []Sample
	keys    []byte
	labels  []Label // scratch of AddSeries
}

type batchSeries struct {
	hash        uint64
	keyEnd      int
	samplesEnd  int
	keyStart    int
	sampleStart int
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.series, b.samples, b.keys = b.series[:0], b.samples[:0], b.keys[:0]
	clear(b.labels)
	b.labels = b.labels[:0]
}

// Len returns the number of series.
func (b *Batch) Len() int { return len(b.series) }

// Rows returns the number of samples of all series.
func (b *Batch) Rows() int { return len(b.samples) }

// Size returns the bytes of memory the batch's arrays hold, used or not.
func (b *Batch) Size() int {
	return cap(b.series)*40 + cap(b.samples)*16 + cap(b.keys) + cap(b.labels)*32
}

// AddSeries starts a new series with a copy of the given labels; AddSample calls that
// follow go to it. The labels are sorted in place. On error, which is of
// kind BadRequest, the batch is unchanged.
func (b *Batch) AddSeries(t TenantID, labels []Label) error {
	start := len(b.keys)
	keys, err := AppendSeriesKey(b.keys, t, labels)
	if err != nil {
		b.keys = keys[:start]
		return err
	}
	b.keys = keys
	b.push(start, HashSeriesKey(b.keys[start:]))
	return nil
}

// AddKey starts a new series with a copy of a canonical key and its hash.
func (b *Batch) AddKey(key []byte, hash uint64) {
	start := len(b.keys)
	b.keys = append(b.keys, key...)
	b.push(start, hash)
}

func (b *Batch) push(keyStart int, hash uint64) {
	n := len(b.samples)
	b.series = append(b.series, batchSeries{hash: hash, keyStart: keyStart, keyEnd: len(b.keys), sampleStart: n, samplesEnd: n})
}

// AddSample adds a sample to the series added last.
func (b *Batch) AddSample(timestamp int64, value float64) {
	invariants.Check(len(b.series) > 0, "sample added to a batch without series")
	b.samples = append(b.samples, Sample{Timestamp: timestamp, Value: value})
	b.series[len(b.series)-1].samplesEnd = len(b.samples)
}

// Append adds series i of src with all its samples.
func (b *Batch) Append(src *Batch, i int) {
	b.AddKey(src.Key(i), src.Hash(i))
	b.samples = append(b.samples, src.Samples(i)...)
	b.series[len(b.series)-1].samplesEnd = len(b.samples)
}

// Key returns the canonical key of series i. It aliases the batch.
func (b *Batch) Key(i int) []byte {
	s := &b.series[i]
	return b.keys[s.keyStart:s.keyEnd:s.keyEnd]
}

// Hash returns HashSeriesKey of the key of series i.
func (b *Batch) Hash(i int) uint64 { return b.series[i].hash }

// Samples returns the samples of series i in the order they were added, which
// need not be that of time. They alias the batch.
func (b *Batch) Samples(i int) []Sample {
	s := &b.series[i]
	return b.samples[s.sampleStart:s.samplesEnd:s.samplesEnd]
}
