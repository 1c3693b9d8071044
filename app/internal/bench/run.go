package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// RunOptions say which peers to measure with which datasets.
type RunOptions struct {
	Lab
	Peers    string // separated by commas
	Datasets string // separated by commas: names or folders
	Repeat   int
	Queries  string
	Hosts    int // 0 is as the dataset's name says
	Scrapes  int // as well
	Seed     uint64
	End      int64
	Rounds   int
	Conns    int
	Rate     float64
	Cold     string // names of queries, separated by commas

	ColdFiles bool

	Settle    time.Duration
	FlushWait time.Duration
	IdleEvery time.Duration
}

// RegisterFlags registers the flags of `vmbench run`.
func (o *RunOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Peers, "peers", "ours-cluster,ours-single,vm-single,prometheus", "systems to measure, of "+PeerNames)
	fs.StringVar(&o.Datasets, "datasets", "a", "folders of datasets, or names of "+DatasetNames)
	fs.IntVar(&o.Repeat, "repeat", 1, "how often to measure each; the table shows medians")
	fs.IntVar(&o.Rounds, "n", 5, "rounds of queries, after a first one; 0 leaves the queries out")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "how long background work after the last request counts as ingestion; three times as long after each phase of dataset c")
	fs.DurationVar(&o.FlushWait, "flush-wait", 10*time.Second, "how long after the flush to wait, for servers that write in the background")
	fs.DurationVar(&o.IdleEvery, "idle-every", time.Second, "a server counts as idle when it uses less than a tenth of a CPU for two such intervals")
	fs.StringVar(&o.Cold, "cold", "cpu_by_mode,heavy_cpu,count_by_name", "queries to be timed cold: the server restarted and the page cache of its data dropped before each; empty is none")
	fs.BoolVar(&o.ColdFiles, "cold-files", false, "empty the page cache of the server's files only (POSIX_FADV_DONTNEED), even as root, who else empties all of it (drop_caches)")
	o.registerOutput(fs)
	o.registerShared(fs)
}

// registerShared registers the flags that `vmbench run` and `vmbench compare` share.
func (o *RunOptions) registerShared(fs *flag.FlagSet) {
	o.registerFolders(fs)
	fs.StringVar(&o.Queries, "queries", "", "query list in JSON; empty is the built-in one")
	fs.IntVar(&o.Hosts, "hosts", 0, "hosts of the named datasets instead of theirs")
	fs.IntVar(&o.Scrapes, "scrapes", 0, "scrapes of the named datasets instead of theirs")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the named datasets")
	fs.Int64Var(&o.End, "end", 0, "Unix timestamp of the last scrape of the named datasets; 0 is the time at which they are first generated")
	fs.IntVar(&o.Conns, "c", 4, "connections")
	fs.Float64Var(&o.Rate, "rate", 0, "samples per second to send at most; 0 is without limit")
}

// Result is one measurement of one peer with one dataset.
type Result struct {
	Origin
	Dataset    string         `json:"dataset"`
	Sent       Manifest       `json:"sent"`
	Ingest     *IngestResult  `json:"ingest"`
	Ingest2    *IngestResult  `json:"ingest2,omitempty"` // the second phase
	ByProcess  []ProcessUsage `json:"by_process"`        // after ingestion
	Idle       *Usage         `json:"idle,omitempty"`    // after the flush
	Merged     *Usage         `json:"merged,omitempty"`
	DiskBefore *Disk          `json:"disk_before,omitempty"` // after the flush
	DiskAfter  *Disk          `json:"disk_after,omitempty"`  // after the merge
	Stored     *int64         `json:"stored,omitempty"`      // samples, as the server itself counts them
	Expected   int64          `json:"expected"`              // what stored should be
	Exact      *Exactness     `json:"exact,omitempty"`
	Queries    *QueryResults  `json:"queries,omitempty"`
	Cold       *ColdResults   `json:"cold,omitempty"`
}

// ProcessUsage is the usage of one process of a cluster.
type ProcessUsage struct {
	Name string `json:"name"`
	Usage
}

// Run measures and returns the results, which are also appended to o.Out.
func Run(ctx context.Context, o RunOptions) ([]Result, error) {
	l, err := o.prepare(o.Peers)
	if err != nil {
		return nil, err
	}
	var results []Result
	var failures []error
	for i := range o.Repeat {
		for _, dataset := range splitList(o.Datasets) {
			done, err := o.runPeers(ctx, l, dataset, inTurn(splitList(o.Peers), i))
			results = append(results, done...)
			failures = append(failures, err)
		}
	}
	return results, errors.Join(failures...)
}

func (o *RunOptions) runPeers(ctx context.Context, l *launcher, dataset string, peers []string) ([]Result, error) {
	dir, m, err := o.openDataset(dataset)
	if err != nil {
		return nil, err
	}
	var results []Result
	err = o.eachPeer(ctx, peers, "dataset "+dataset, func(peer string) error {
		r := Result{Origin: newOrigin("", peer), Dataset: filepath.Base(dataset), Sent: *m, Expected: m.Numbers()}
		if peer == "prometheus" {
			r.Expected = m.Samples // it counts NaNs and stale markers as well
		}
		if err := o.experiment(ctx, l, &r.Origin, func(s *server) error { return o.measure(ctx, s, &r, dir) }); err != nil {
			return err
		}
		results = append(results, r)
		return o.record(&r)
	})
	return results, err
}

// measure fills in the result.
func (o *RunOptions) measure(ctx context.Context, s *server, r *Result, dataset string) error {
	var err error
	if r.Ingest, r.Ingest2, err = o.ingest(ctx, s, dataset, r.Sent.PhaseAt); err != nil {
		return err
	}
	for _, p := range s.processes {
		u, err := ReadUsage([]int{p.pid()})
		if err != nil {
			return err
		}
		r.ByProcess = append(r.ByProcess, ProcessUsage{p.name, u})
	}
	if s.readURL == "" {
		return nil
	}
	if err := o.measureStorage(ctx, s, r); err != nil {
		return err
	}
	stored, err := countSamples(ctx, s, r.Peer, &r.Sent)
	if err != nil {
		return err
	}
	r.Stored = &stored
	if r.Exact, err = checkExact(ctx, s.readURL, dataset); err != nil {
		return err
	}
	ask := QueryOptions{Dataset: dataset, Queries: o.Queries, URL: s.readURL, Rounds: o.Rounds, PIDs: s.pids()}
	if o.Rounds > 0 {
		o.logf("  queries")
		if r.Queries, err = RunQueries(ctx, ask, nil); err != nil {
			return err
		}
	}
	if o.Cold == "" {
		return nil
	}
	o.logf("  cold queries")
	r.Cold, err = o.coldQueries(ctx, s, ask)
	return err
}

// ingest replays the dataset, in two phases if it has them.
func (o *RunOptions) ingest(ctx context.Context, s *server, dataset string, phaseAt int) (first, second *IngestResult, err error) {
	all := IngestOptions{Dataset: dataset, URL: s.writeURL, Conns: o.Conns, ToScrape: 1 << 30, Rate: o.Rate, Settle: o.Settle, PIDs: s.pids()}
	if phaseAt == 0 {
		first, err = Ingest(ctx, all)
		return first, nil, err
	}
	all.Settle *= 3
	one, two := all, all
	one.ToScrape, two.FromScrape = phaseAt, phaseAt
	if first, err = Ingest(ctx, one); err != nil {
		return nil, nil, err
	}
	second, err = Ingest(ctx, two)
	return first, second, err
}

// measureStorage flushes and merges, and measures memory and disk after each.
func (o *RunOptions) measureStorage(ctx context.Context, s *server, r *Result) error {
	o.logf("  flush")
	if err := s.call(ctx, http.MethodGet, s.flush); err != nil {
		return err
	}
	if err := pause(ctx, o.FlushWait); err != nil {
		return err
	}
	var err error
	if r.Idle, r.DiskBefore, err = o.rest(ctx, s, r.Sent.Samples); err != nil {
		return err
	}
	o.logf("  merge")
	if r.Peer == "prometheus" { // its blocks, the head's included, without the log
		err = s.call(ctx, http.MethodPost, []string{s.readURL + "/api/v1/admin/tsdb/snapshot"})
		s.dataDirs = []string{filepath.Join(s.dataDirs[0], "snapshots")}
	} else {
		err = s.call(ctx, http.MethodGet, s.merge)
	}
	if err != nil {
		return err
	}
	r.Merged, r.DiskAfter, err = o.rest(ctx, s, r.Sent.Samples)
	return err
}

// rest waits until the server has nothing to do and measures it.
func (o *RunOptions) rest(ctx context.Context, s *server, samples int64) (*Usage, *Disk, error) {
	if err := s.waitIdle(ctx, o.IdleEvery); err != nil {
		return nil, nil, err
	}
	u, err := ReadUsage(s.pids())
	if err != nil {
		return nil, nil, err
	}
	d, err := MeasureDisk(samples, s.dataDirs...)
	return &u, &d, err
}

// countWindow is the longest time over which samples are counted by one query.
const countWindow = 3 * time.Hour

// countSamples asks the server how many samples it has of what was sent.
func countSamples(ctx context.Context, s *server, peer string, sent *Manifest) (int64, error) {
	if peer == "prometheus" { // which cannot count over series of different names
		return countAppended(ctx, s)
	}
	total := int64(0)
	for _, job := range sent.jobs() {
		for from := sent.StartMs/1000 - 300; from < sent.EndMs/1000+60; from += int64(countWindow.Seconds()) {
			n, err := countJob(ctx, s, job, from+int64(countWindow.Seconds()))
			if err != nil {
				return 0, fmt.Errorf("cannot count the stored samples: %w", err)
			}
			total += n
		}
	}
	return total, nil
}

// countJob counts the samples in the window that ends with a Unix timestamp.
func countJob(ctx context.Context, s *server, job string, end int64) (int64, error) {
	p := url.Values{"nocache": {"1"}, "time": {strconv.FormatInt(end, 10)}}
	p.Set("query", fmt.Sprintf(`sum(count_over_time({job=%q}[%ds]))`, job, int64(countWindow.Seconds())))
	data, err := httpGet(ctx, s.readURL+"/api/v1/query?"+p.Encode())
	if err != nil {
		return 0, err
	}
	counted, err := (&QuerySpec{Type: "instant"}).parse(data)
	total := int64(0)
	for _, v := range counted[""] {
		total += int64(v)
	}
	return total, err
}

func countAppended(ctx context.Context, s *server) (int64, error) {
	page, err := httpGet(ctx, s.readURL+"/metrics")
	if err != nil {
		return 0, fmt.Errorf("cannot count the stored samples: %w", err)
	}
	total := 0.0
	for line := range strings.Lines(string(page)) {
		f := strings.Fields(line)
		if len(f) != 2 || !strings.HasPrefix(f[0], "prometheus_tsdb_head_samples_appended_total") {
			continue
		}
		n, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return 0, fmt.Errorf("cannot parse metric %q: %w", line, err)
		}
		total += n
	}
	return int64(total), nil
}
