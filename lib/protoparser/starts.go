package protoparser

import (
	"slices"
	"sync"

	"vmcluster/lib/model"
)

// startsSeen remembers of which series the start has been told of late. It is a table of buckets, in each of which what was looked for least recently
// leaves: who has left is told of again, which is harmless.
type startsSeen struct {
	mu struct {
		sync.Mutex
		buckets [][startBucket]uint64 // made with the first start; 0 is nothing
	}
}

const (
	startBucket  = 8       // a cache line
	startBuckets = 1 << 17 // 8 MiB
)

// add reports whether the start is new.
func (s *startsSeen) add(id uint64) bool {
	id |= 1 // never 0
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.buckets == nil {
		s.mu.buckets = make([][startBucket]uint64, startBuckets)
	}
	b := &s.mu.buckets[id>>1%startBuckets]
	at := slices.Index(b[:], id)
	known := at >= 0
	if !known {
		at = startBucket - 1
	}
	copy(b[1:at+1], b[:at])
	b[0] = id
	return !known
}

// forget has the start told again.
func (s *startsSeen) forget(id uint64) {
	id |= 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.buckets == nil {
		return
	}
	b := &s.mu.buckets[id>>1%startBuckets]
	if at := slices.Index(b[:], id); at >= 0 {
		b[at] = 0
	}
}

// startID stands for a series with its start.
func startID(hash uint64, start int64) uint64 {
	const odd = 0x9e3779b97f4a7c15
	x := hash ^ uint64(start)*odd
	return (x ^ x>>29) * odd
}

// IsRecent reports whether Began would look at the start. Those which are long ago were told of when they were new, or nobody can tell any more what has been stored
// since.
func (c *Collector) IsRecent(start, timestamp int64) bool {
	return start > 0 && timestamp-start <= c.intake.maxStartAgeMs && c.req.Starts != nil && c.err == nil
}

// Began notes when the series begun last began to count, before the first sample of it at timestamp is collected.
func (c *Collector) Began(start, timestamp int64) {
	if !c.IsRecent(start, timestamp) {
		return
	}
	last := c.batch.Len() - 1
	// One which lies ahead, by another clock, is noted too: it must not pass for a start when samples have caught up with it.
	if !c.intake.starts.add(startID(c.batch.Hash(last), start)) || start >= timestamp {
		return
	}
	c.starts = append(c.starts, model.Start{Series: slices.Clone(c.batch.Key(last)), Timestamp: start})
}

// tellStarts hands on the starts of the batch, before its samples. A failure is counted and does not concern samples.
func (c *Collector) tellStarts() {
	if len(c.starts) == 0 {
		return
	}
	in, list := c.intake, c.starts
	c.starts = nil
	if c.err != nil {
		return
	}
	if err := c.req.Starts(list); err != nil {
		for i := range list {
			in.starts.forget(startID(model.HashSeriesKey(list[i].Series), list[i].Timestamp))
		}
		in.startsDropped.Add(len(list))
		in.Warnf("cannot store when %d series began; their first increase is not counted, samples are not affected: %s", len(list), err)
	}
}
