package bench

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

//archtest:allow variable go:embed fills variables only; nothing writes to it
//go:embed testdata/corpus/*.rec.gz
var recordings embed.FS

// CorpusSets describes the sets of data that compression is tuned on and judged by. They have no exporter in common.
const CorpusSets = "tune (recordings of node_exporter and Prometheus, to tune on, as are datasets a to d), " +
	"judge (recordings of victoria-metrics and alertmanager, to judge by), kube (like kube-state-metrics and cAdvisor, with uuids and pods that come and go, to judge by)"

// corpusExporters returns the recordings of a set; none of one that is made up.
func corpusExporters(set string) (names []string, ok bool) {
	switch set {
	case "tune":
		return []string{"node_exporter", "prometheus"}, true
	case "judge":
		return []string{"victoria_metrics", "alertmanager"}, true
	case "kube":
		return nil, true
	}
	return nil, false
}

// CorpusOptions say which set to write.
type CorpusOptions struct {
	Set     string
	Dir     string
	Nodes   int
	Scrapes int
	Seed    uint64
	End     int64 // Unix seconds; 0 is now
}

// RegisterFlags registers the flags of `vmbench corpus`.
func (o *CorpusOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Set, "set", "judge", "which data: "+CorpusSets)
	fs.StringVar(&o.Dir, "out", "", "folder to write the dataset to")
	fs.IntVar(&o.Nodes, "nodes", 20, "Kubernetes nodes of the set kube, 30 pods each")
	fs.IntVar(&o.Scrapes, "scrapes", 240, "scrapes, 15s apart; the recordings have fewer")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of all random numbers")
	fs.Int64Var(&o.End, "end", 0, "Unix timestamp of the last scrape; 0 is now")
}

// Corpus writes a dataset for the tuning or the judging of compression.
func Corpus(o CorpusOptions) (*Manifest, error) {
	exporters, ok := corpusExporters(o.Set)
	if !ok {
		return nil, fmt.Errorf("cannot write the set %q: there are %s", o.Set, CorpusSets)
	}
	if o.Dir == "" || o.Nodes < 1 || o.Scrapes < 1 {
		return nil, errors.New("cannot write a corpus: give -out, and at least one node and one scrape")
	}
	if o.End == 0 {
		o.End = time.Now().Unix()
	}
	return writeDataset(o.Dir, func(sink func(Body) error) (*Manifest, error) {
		c := &collector{perBody: 5000, shards: make([]shard, 8), sink: sink}
		var err error
		if exporters == nil {
			c.m = o.manifest(o.Scrapes)
			newKube(&o, c).write()
		} else {
			err = o.replayAll(c, exporters)
		}
		return &c.m, errors.Join(err, c.flushAll())
	})
}

func (o *CorpusOptions) manifest(scrapes int) Manifest {
	return Manifest{Seed: o.Seed, Hosts: 1, Scrapes: scrapes, Shards: 8, StartMs: (o.End - int64(scrapes)*scrapeSeconds) * 1000, EndMs: o.End * 1000}
}

func loadRecording(name string) (*recording, error) {
	file, err := recordings.Open("testdata/corpus/" + name + ".rec.gz")
	if err != nil {
		return nil, fmt.Errorf("cannot open recording: %w", err)
	}
	rec, err := readRecording(file)
	return rec, errors.Join(err, file.Close())
}

// replayAll writes the recordings as they are, as targets of one host.
func (o *CorpusOptions) replayAll(c *collector, exporters []string) error {
	var list []*recording
	scrapes := o.Scrapes
	for _, name := range exporters {
		rec, err := loadRecording(name)
		if err != nil {
			return err
		}
		list = append(list, rec)
		scrapes = min(scrapes, rec.scrapes)
	}
	c.m = o.manifest(scrapes)
	c.m.Jobs = strings.Join(exporters, ",")
	rng := rand.New(rand.NewPCG(o.Seed, 1<<41))
	for i, rec := range list {
		if err := replayOne(c, rec, exporters[i], i, rng); err != nil {
			return fmt.Errorf("cannot replay recording of %s: %w", exporters[i], err)
		}
	}
	return nil
}

// replayOne writes a recording; all of it goes to one shard. A series that ends gets a stale marker.
func replayOne(c *collector, rec *recording, job string, number int, rng *rand.Rand) error {
	names, err := labelsOf(rec.order)
	if err != nil {
		return err
	}
	labels := make([][]byte, len(names))
	for i := range names {
		e := encodeLabels(&target{templates: []template{{labels: names[i]}}})
		labels[i] = e[0].append(nil, "recorded", &target{job: job, port: 9100 + number})
		if slices.ContainsFunc(rec.values[rec.order[i]][:c.m.Scrapes], func(v string) bool { return v != "" }) {
			c.m.Active++
			c.m.Series++
		}
	}
	offsetMs := rng.Int64N(scrapeSeconds * 1000)
	for c.scrape = range c.m.Scrapes {
		timestampMs := c.m.StartMs + int64(c.scrape)*scrapeSeconds*1000 + offsetMs
		if rng.Float64() < 0.01 {
			timestampMs += 3 + rng.Int64N(20)
		}
		for i, key := range rec.order {
			if err := c.replay(labels[i], rec.values[key], timestampMs); err != nil {
				return err
			}
		}
	}
	return c.flushAll()
}

// replay adds what a series was at the current scrape: a value, its end or nothing.
func (c *collector) replay(labels []byte, values []string, timestampMs int64) error {
	text := values[c.scrape]
	if text == "" {
		if c.scrape > 0 && values[c.scrape-1] != "" {
			c.addStale(0, labels, timestampMs)
		}
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	c.add(0, labels, v, timestampMs)
	return nil
}
