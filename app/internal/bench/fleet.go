package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

// staleBits are the bits of the NaN that marks the end of a series. It must not
// pass through arithmetic, which would change them.
const staleBits = 0x7ff0000000000002

// collector collects samples into requests.
type collector struct {
	m         Manifest
	perBody   int
	shards    []shard
	scrape    int              // that requests are marked with
	sink      func(Body) error // takes the requests; it must not keep their data
	snappyBuf []byte
	err       error // the first one
}

type shard struct {
	buf     []byte
	samples int
	nans    int // of them, stale markers included
}

// add adds a sample of the series with the encoded labels.
func (c *collector) add(shardID int, labels []byte, value float64, timestampMs int64) {
	s := &c.shards[shardID]
	s.buf = appendTimeSeries(s.buf, labels, value, timestampMs)
	c.m.Samples++
	switch {
	case math.Float64bits(value) == staleBits:
		s.nans++
		c.m.Stale++
	case math.IsNaN(value):
		s.nans++
		c.m.NaNs++
	}
	if s.samples++; s.samples >= c.perBody {
		c.flush(shardID)
	}
}

// addStale adds the end of a series.
func (c *collector) addStale(shardID int, labels []byte, timestampMs int64) {
	c.add(shardID, labels, math.Float64frombits(staleBits), timestampMs)
}

func (c *collector) flush(shardID int) {
	s := &c.shards[shardID]
	if s.samples == 0 || c.err != nil {
		return
	}
	c.snappyBuf = snappy.Encode(c.snappyBuf[:cap(c.snappyBuf)], s.buf)
	c.err = c.sink(Body{Samples: s.samples, Numbers: s.samples - s.nans, Scrape: c.scrape, Shard: shardID, Data: c.snappyBuf})
	c.m.Bodies++
	c.m.RawBytes += int64(len(s.buf))
	c.m.Bytes += int64(len(c.snappyBuf))
	s.buf, s.samples, s.nans = s.buf[:0], 0, 0
}

func (c *collector) flushAll() error {
	for i := range c.shards {
		c.flush(i)
	}
	return c.err
}

// fleet simulates hosts.
type fleet struct {
	collector
	opts    *GenerateOptions
	targets []*target
	encoded [][]encodedLabels // by target and template
	hosts   []*host
	names   []string
	next    int // scrape
	churn   *rand.Rand
	labels  []byte
}

func newFleet(o *GenerateOptions, targets []*target, sink func(Body) error) *fleet {
	f := &fleet{opts: o, targets: targets, churn: rand.New(rand.NewPCG(o.Seed, 1<<40+uint64(o.firstHost)))}
	f.perBody, f.shards, f.sink = o.SamplesPerBody, make([]shard, o.Shards), sink
	f.m = Manifest{
		Seed: o.Seed, Hosts: o.Hosts, Late: o.Late, CPUs: o.CPUs, Scrapes: o.Scrapes, Churn: o.Churn, ChurnStep: o.ChurnEvery, Shards: o.Shards, PhaseAt: o.PhaseAt,
		StartMs: o.End*1000 - int64(o.Scrapes)*scrapeSeconds*1000, EndMs: o.End * 1000,
	}
	for _, t := range targets {
		f.encoded = append(f.encoded, encodeLabels(t))
	}
	for i := range o.Hosts {
		number := o.firstHost + i*max(1, o.hostStep)
		f.hosts = append(f.hosts, newHost(rand.New(rand.NewPCG(o.Seed, uint64(number))), targets))
		f.names = append(f.names, fmt.Sprintf("host-%05d", number))
	}
	f.m.Active = seriesPerHost(targets) * o.Hosts
	f.m.Series = int64(f.m.Active)
	return f
}

func seriesPerHost(targets []*target) int {
	n := 0
	for _, t := range targets {
		n += len(t.templates)
	}
	return n
}

// scrapeAll scrapes all hosts once. It returns the first error of the sink.
func (f *fleet) scrapeAll() error {
	if f.next == f.opts.PhaseAt && f.next > 0 {
		if err := f.flushAll(); err != nil { // these requests belong to the first phase
			return err
		}
	}
	f.scrape = f.next
	for i, h := range f.hosts {
		renamed := f.scrape > 0 && f.opts.ChurnEvery > 0 && f.scrape%f.opts.ChurnEvery == 0 && f.churn.Float64() < f.opts.Churn
		f.names[i] = f.scrapeHost(i, h, f.names[i], renamed)
		if f.err != nil {
			return f.err
		}
	}
	f.next++
	return nil
}

// scrapeHost writes one scrape of a host and returns its name, which is a new one if it is to be renamed.
func (f *fleet) scrapeHost(i int, h *host, name string, renamed bool) string {
	timestampMs := f.m.StartMs + int64(f.scrape)*scrapeSeconds*1000 + h.offsetMs
	if h.rng.Float64() < f.opts.Late { // most scrapes are aligned, a few are late
		timestampMs += 3 + h.rng.Int64N(20)
	}
	write := func(target, template int, value float64) {
		f.labels = f.encoded[target][template].append(f.labels[:0], name, f.targets[target])
		f.add(i%f.opts.Shards, f.labels, value, timestampMs)
	}
	if renamed {
		for t := range f.targets {
			for j := range f.targets[t].templates {
				write(t, j, math.Float64frombits(staleBits))
				f.m.Series++
			}
		}
		name = fmt.Sprintf("host-%05d-%d", f.opts.firstHost+i*max(1, f.opts.hostStep), f.scrape)
		h.reset(0)
	} else if h.rng.Float64() < f.opts.Restarts {
		h.restart()
	}
	h.step(timestampMs/1000, write)
	return name
}

// encodedLabels are the encoded labels of a template around instance and job.
type encodedLabels struct{ before, between, after []byte }

func encodeLabels(t *target) []encodedLabels {
	var list []encodedLabels
	for _, tpl := range t.templates {
		var e encodedLabels
		for _, l := range tpl.labels {
			switch {
			case l.Name < "instance":
				e.before = appendLabels(e.before, l)
			case l.Name < "job":
				e.between = appendLabels(e.between, l)
			default:
				e.after = appendLabels(e.after, l)
			}
		}
		list = append(list, e)
	}
	return list
}

func (e *encodedLabels) append(dst []byte, name string, t *target) []byte {
	dst = append(dst, e.before...)
	dst = appendLabels(dst, prompb.Label{Name: "instance", Value: name + ":" + strconv.Itoa(t.port)})
	dst = append(dst, e.between...)
	dst = appendLabels(dst, prompb.Label{Name: "job", Value: t.job})
	return append(dst, e.after...)
}
