package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RunOptions say which peers to measure with which datasets.
type RunOptions struct {
	Peers    string // separated by commas
	Datasets string // separated by commas: names or folders
	Repeat   int
	Bin      string
	PeerBin  string
	Dir      string
	Out      string
	Lock     string
	Queries  string
	Hosts    int // 0 is as the dataset's name says
	Scrapes  int // as well
	Seed     uint64
	End      int64
	Rounds   int
	Conns    int
	Rate     float64

	Settle    time.Duration
	FlushWait time.Duration
	IdleEvery time.Duration

	Log  io.Writer // of progress
	Self []string  // command that runs this tool; nil is the running binary
}

// RegisterFlags registers the flags of `vmbench run`.
func (o *RunOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Peers, "peers", "ours-cluster,ours-single,vm-single,prometheus", "systems to measure, of "+PeerNames)
	fs.StringVar(&o.Datasets, "datasets", "a", "folders of datasets, or names of "+DatasetNames)
	fs.IntVar(&o.Repeat, "repeat", 1, "how often to measure each; the table shows medians")
	fs.StringVar(&o.Out, "out", "results.jsonl", "file to which one line per measurement is appended; `vmbench table` reads it")
	fs.StringVar(&o.Lock, "lock", "", "file to be locked during each measurement, when several people measure on one machine")
	fs.IntVar(&o.Rounds, "n", 5, "rounds of queries, after a first one; 0 leaves the queries out")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "how long background work after the last request counts as ingestion; three times as long after each phase of dataset c")
	fs.DurationVar(&o.FlushWait, "flush-wait", 10*time.Second, "how long after the flush to wait, for servers that write in the background")
	fs.DurationVar(&o.IdleEvery, "idle-every", time.Second, "a server counts as idle when it uses less than a tenth of a CPU for two such intervals")
	o.registerShared(fs)
}

// registerShared registers the flags that `vmbench run` and `vmbench compare` share.
func (o *RunOptions) registerShared(fs *flag.FlagSet) {
	fs.StringVar(&o.Bin, "bin", "bin", "folder with our binaries")
	fs.StringVar(&o.PeerBin, "peer-bin", "", "folder with the peers' binaries; empty is PATH, where Debian's packages victoria-metrics and prometheus put them")
	fs.StringVar(&o.Dir, "dir", "bench-data", "folder for datasets, which stay, and for the servers' data, which goes")
	fs.StringVar(&o.Queries, "queries", "", "query list in JSON; empty is the built-in one")
	fs.IntVar(&o.Hosts, "hosts", 0, "hosts of the named datasets instead of theirs")
	fs.IntVar(&o.Scrapes, "scrapes", 0, "scrapes of the named datasets instead of theirs")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the named datasets")
	fs.Int64Var(&o.End, "end", 0, "Unix timestamp of the last scrape of the named datasets; 0 is the time at which they are first generated")
	fs.IntVar(&o.Conns, "c", 4, "connections")
	fs.Float64Var(&o.Rate, "rate", 0, "samples per second to send at most; 0 is without limit")
}

func (o *RunOptions) logf(format string, args ...any) {
	if o.Log != nil {
		_, _ = fmt.Fprintf(o.Log, time.Now().Format("15:04:05 ")+format+"\n", args...) // progress only
	}
}

// Result is one measurement of one peer with one dataset.
type Result struct {
	Peer       string         `json:"peer"`
	Dataset    string         `json:"dataset"`
	Version    string         `json:"version,omitempty"`
	Started    time.Time      `json:"started"`
	CPUs       int            `json:"cpus"`
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
	Queries    *QueryResults  `json:"queries,omitempty"`
}

// ProcessUsage is the usage of one process of a cluster.
type ProcessUsage struct {
	Name string `json:"name"`
	Usage
}

// Run measures and returns the results, which are also appended to o.Out. Peers that are not installed
// are skipped with a message; a peer that fails does not keep the others from being measured.
func Run(ctx context.Context, o RunOptions) ([]Result, error) {
	l, err := o.prepare()
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(o.Out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open -out=%s: %w", o.Out, err)
	}
	defer out.Close()
	var results []Result
	var failures []error
	peers := splitList(o.Peers)
	for i := range o.Repeat {
		for _, dataset := range splitList(o.Datasets) {
			done, err := o.runPeers(ctx, l, dataset, inTurn(peers, i), out)
			results = append(results, done...)
			failures = append(failures, err)
		}
	}
	return results, errors.Join(failures...)
}

// inTurn returns the peers in the opposite order every second time, so that none is always first.
func inTurn(peers []string, round int) []string {
	peers = slices.Clone(peers)
	if round%2 == 1 {
		slices.Reverse(peers)
	}
	return peers
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// prepare checks the options and returns what starts the peers.
func (o *RunOptions) prepare() (*launcher, error) {
	for _, p := range splitList(o.Peers) {
		if !slices.Contains(splitList(PeerNames), p) {
			return nil, fmt.Errorf("cannot measure peer %q: there are %s", p, PeerNames)
		}
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create -dir=%s: %w", o.Dir, err)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	self := o.Self
	if self == nil {
		path, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find the path of this tool: %w", err)
		}
		self = []string{path}
	}
	return &launcher{bin: o.Bin, peerBin: o.PeerBin, self: self, dir: dir}, nil
}

func (o *RunOptions) runPeers(ctx context.Context, l *launcher, dataset string, peers []string, out io.Writer) ([]Result, error) {
	dir, m, err := o.openDataset(dataset)
	if err != nil {
		return nil, err
	}
	var results []Result
	var failures []error
	for _, peer := range peers {
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		o.logf("measuring %s with dataset %s", peer, dataset)
		r, err := o.runPeer(ctx, l, peer, dir, m)
		if errors.Is(err, errMissing) {
			o.logf("skipping %s: %s", peer, err)
			continue
		}
		if err != nil {
			o.logf("failed: %s: %s", peer, err)
			failures = append(failures, fmt.Errorf("cannot measure %s with dataset %s: %w", peer, dataset, err))
			continue
		}
		r.Dataset = filepath.Base(dataset)
		results = append(results, *r)
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return results, fmt.Errorf("cannot write result to -out=%s: %w", o.Out, err)
		}
	}
	return results, errors.Join(failures...)
}

func (o *RunOptions) runPeer(ctx context.Context, l *launcher, peer, dataset string, m *Manifest) (*Result, error) {
	unlock, err := lockFile(ctx, o.Lock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r := &Result{Peer: peer, Started: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Sent: *m, Expected: m.Numbers()}
	if peer == "prometheus" {
		r.Expected = m.Samples // it counts NaNs and stale markers as well
	}
	s, err := l.launch(ctx, peer)
	if err != nil {
		return nil, err
	}
	r.Version = s.version
	err = o.measure(ctx, s, r, dataset)
	if err != nil {
		err = errors.Join(err, s.died())
	}
	return r, errors.Join(err, s.close())
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
	stored, err := countSamples(ctx, s, r)
	if err != nil {
		return err
	}
	r.Stored = &stored
	if o.Rounds == 0 {
		return nil
	}
	o.logf("  queries")
	r.Queries, err = RunQueries(ctx, QueryOptions{Dataset: dataset, Queries: o.Queries, URL: s.readURL, Rounds: o.Rounds, PIDs: s.pids()}, nil)
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

// countSamples asks the server how many samples it has.
func countSamples(ctx context.Context, s *server, r *Result) (int64, error) {
	if r.Peer == "prometheus" { // which cannot count over series of different names
		return countAppended(ctx, s)
	}
	total := int64(0)
	for _, job := range []string{"node", "prometheus"} {
		window := (r.Sent.EndMs-r.Sent.StartMs)/1000 + 300
		p := url.Values{"nocache": {"1"}, "time": {strconv.FormatInt(r.Sent.EndMs/1000+60, 10)}}
		p.Set("query", fmt.Sprintf(`sum(count_over_time({job=%q}[%ds]))`, job, window))
		data, err := httpGet(ctx, s.readURL+"/api/v1/query?"+p.Encode())
		if err != nil {
			return 0, fmt.Errorf("cannot count the stored samples: %w", err)
		}
		counted, err := (&QuerySpec{Type: "instant"}).parse(data)
		if err != nil {
			return 0, fmt.Errorf("cannot count the stored samples: %w", err)
		}
		for _, v := range counted[""] {
			total += int64(v)
		}
	}
	return total, nil
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

// lockFile waits for an exclusive lock of a file; an empty path needs none.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open -lock=%s: %w", path, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock -lock=%s: %w", path, errors.Join(err, f.Close()))
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}
