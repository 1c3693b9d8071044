package bench

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

// staleBits are the bits of the NaN that marks the end of a series. It must not
// pass through arithmetic, which would change them.
const staleBits = 0x7ff0000000000002

// GenerateOptions say what a dataset is like.
type GenerateOptions struct {
	Dir            string
	Hosts          int
	Scrapes        int
	CPUs           int
	Shards         int
	SamplesPerBody int
	Restarts       float64 // probability that a host restarts at a scrape
	Churn          float64
	ChurnEvery     int
	PhaseAt        int // scrape at which a replay can be split; 0 is none
	Late           float64
	Seed           uint64
	End            int64 // Unix seconds; 0 is now
}

// RegisterFlags registers the flags of `vmbench gen`, whose defaults are the options of dataset a.
func (o *GenerateOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Dir, "out", "", "folder to write the dataset to")
	fs.IntVar(&o.Hosts, "hosts", 100, "hosts; each has a node_exporter and a Prometheus to scrape")
	fs.IntVar(&o.Scrapes, "scrapes", 480, "scrapes of each target, 15s apart")
	fs.IntVar(&o.CPUs, "cpus", 16, "CPUs of each host")
	fs.IntVar(&o.Shards, "shards", 8, "shards the hosts are spread over; the most connections a replay can use")
	fs.IntVar(&o.SamplesPerBody, "samples-per-request", 5000, "samples in a request")
	fs.Float64Var(&o.Restarts, "restarts", 1.0/5000, "probability that a host restarts at a scrape, which resets its counters")
	fs.Float64Var(&o.Churn, "churn", 0, "fraction of hosts renamed every -churn-every scrapes")
	fs.IntVar(&o.ChurnEvery, "churn-every", 20, "scrapes between renamings")
	fs.IntVar(&o.PhaseAt, "phase-at", 0, "scrape before which no request mixes scrapes, so that its costs can be told from those before: 1 tells registration from the rest")
	fs.Float64Var(&o.Late, "late", 0.01, "fraction of scrapes that are some milliseconds late; 1 jitters every timestamp")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of all random numbers")
	fs.Int64Var(&o.End, "end", 0, "Unix timestamp of the last scrape; 0 is now")
}

// DefaultGenerateOptions returns the defaults of the flags.
func DefaultGenerateOptions() GenerateOptions {
	var o GenerateOptions
	o.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError))
	return o
}

func (o *GenerateOptions) check() error {
	switch {
	case o.Dir == "":
		return errors.New("cannot generate a dataset without a folder: give -out")
	case o.Hosts < 1 || o.Scrapes < 1 || o.CPUs < 1 || o.Shards < 1 || o.SamplesPerBody < 1:
		return errors.New("cannot generate an empty dataset: -hosts, -scrapes, -cpus, -shards and -samples-per-request must be at least 1")
	case o.Churn < 0 || o.Churn > 1 || o.Late < 0 || o.Late > 1 || o.Restarts < 0 || o.Restarts > 1:
		return errors.New("cannot generate a dataset: -churn, -late and -restarts are fractions from 0 to 1")
	}
	return nil
}

// Generate writes a dataset. The manifest is written last, so a folder with one is complete.
func Generate(o GenerateOptions) (*Manifest, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.End == 0 {
		o.End = time.Now().Unix()
	}
	targets, err := loadTargets(o.CPUs)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create folder of dataset: %w", err)
	}
	path := filepath.Join(o.Dir, manifestFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace dataset %q: %w", o.Dir, err)
	}
	m, err := o.writeBodies(targets)
	if err != nil {
		return nil, fmt.Errorf("cannot write dataset %q: %w", o.Dir, err)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("cannot write manifest of dataset: %w", err)
	}
	return m, nil
}

func (o *GenerateOptions) writeBodies(targets []*target) (*Manifest, error) {
	file, err := os.Create(filepath.Join(o.Dir, bodiesFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	d := &datasetWriter{opts: o, targets: targets, w: bufio.NewWriterSize(file, 1<<20), shards: make([]shard, o.Shards)}
	d.m = Manifest{
		Seed: o.Seed, Hosts: o.Hosts, Late: o.Late, CPUs: o.CPUs, Scrapes: o.Scrapes, Churn: o.Churn, ChurnStep: o.ChurnEvery, Shards: o.Shards, PhaseAt: o.PhaseAt,
		StartMs: o.End*1000 - int64(o.Scrapes)*scrapeSeconds*1000, EndMs: o.End * 1000,
	}
	d.generate()
	if d.err == nil {
		d.err = d.w.Flush()
	}
	if d.err == nil {
		d.err = file.Close()
	}
	return &d.m, d.err
}

type shard struct {
	buf     []byte
	samples int
}

// datasetWriter collects samples into requests.
type datasetWriter struct {
	opts      *GenerateOptions
	targets   []*target
	encoded   [][]encodedLabels // by target and template
	m         Manifest
	w         *bufio.Writer
	shards    []shard
	scrape    int
	labels    []byte
	snappyBuf []byte
	err       error // the first one
}

func (d *datasetWriter) generate() {
	perHost := 0
	for _, t := range d.targets {
		d.encoded = append(d.encoded, encodeLabels(t))
		perHost += len(t.templates)
	}
	d.m.Active = perHost * d.opts.Hosts
	d.m.Series = int64(d.m.Active)
	hosts, names := make([]*host, d.opts.Hosts), make([]string, d.opts.Hosts)
	for i := range hosts {
		hosts[i] = newHost(rand.New(rand.NewPCG(d.opts.Seed, uint64(i))), d.targets)
		names[i] = fmt.Sprintf("host-%05d", i)
	}
	churn := rand.New(rand.NewPCG(d.opts.Seed, 1<<40))
	for d.scrape = range d.opts.Scrapes {
		if d.err != nil {
			return
		}
		if d.scrape == d.opts.PhaseAt && d.scrape > 0 {
			d.scrape-- // these requests belong to the first phase
			d.flushAll()
			d.scrape++
		}
		for i, h := range hosts {
			renamed := d.scrape > 0 && d.opts.ChurnEvery > 0 && d.scrape%d.opts.ChurnEvery == 0 && churn.Float64() < d.opts.Churn
			names[i] = d.scrapeHost(i, h, names[i], renamed)
		}
	}
	d.flushAll()
}

func (d *datasetWriter) flushAll() {
	for i := range d.shards {
		d.flush(i)
	}
}

// scrapeHost writes one scrape of a host and returns its name, which is a new one if it is to be renamed.
func (d *datasetWriter) scrapeHost(i int, h *host, name string, renamed bool) string {
	timestampMs := d.m.StartMs + int64(d.scrape)*scrapeSeconds*1000 + h.offsetMs
	if h.rng.Float64() < d.opts.Late { // most scrapes are aligned, a few are late
		timestampMs += 3 + h.rng.Int64N(20)
	}
	write := func(target, template int, value float64) {
		d.labels = d.encoded[target][template].append(d.labels[:0], name, d.targets[target])
		d.add(i%d.opts.Shards, value, timestampMs)
	}
	if renamed {
		for t := range d.targets {
			for j := range d.targets[t].templates {
				write(t, j, math.Float64frombits(staleBits))
				d.m.Series++
			}
		}
		name = fmt.Sprintf("host-%05d-%d", i, d.scrape)
		h.reset(0)
	} else if h.rng.Float64() < d.opts.Restarts {
		h.restart()
	}
	h.step(timestampMs/1000, write)
	return name
}

// add adds a sample of the series with the labels in d.labels.
func (d *datasetWriter) add(shardID int, value float64, timestampMs int64) {
	s := &d.shards[shardID]
	s.buf = appendTimeSeries(s.buf, d.labels, value, timestampMs)
	if s.samples++; s.samples >= d.opts.SamplesPerBody {
		d.flush(shardID)
	}
	d.m.Samples++
	switch {
	case math.Float64bits(value) == staleBits:
		d.m.Stale++
	case math.IsNaN(value):
		d.m.NaNs++
	}
}

func (d *datasetWriter) flush(shardID int) {
	s := &d.shards[shardID]
	if s.samples == 0 || d.err != nil {
		return
	}
	d.snappyBuf = snappy.Encode(d.snappyBuf[:cap(d.snappyBuf)], s.buf)
	var header []byte
	for _, v := range []int{len(d.snappyBuf), s.samples, d.scrape, shardID} {
		header = binary.LittleEndian.AppendUint32(header, uint32(v))
	}
	if _, d.err = d.w.Write(header); d.err == nil {
		_, d.err = d.w.Write(d.snappyBuf)
	}
	d.m.Bodies++
	d.m.RawBytes += int64(len(s.buf))
	d.m.Bytes += int64(len(d.snappyBuf))
	s.buf, s.samples = s.buf[:0], 0
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
