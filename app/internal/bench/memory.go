package bench

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MemoryOptions say how many series to keep in memory for how long.
type MemoryOptions struct {
	Lab
	Peers   string
	Series  int
	Scrapes int
	Writers int
	Budget  bool
	Settle  time.Duration
	Seed    uint64
}

// memorySteps is how often the memory is noted.
const memorySteps = 10

const budgetFlag = "-memory.allowedBytes="

// RegisterFlags registers the flags of `vmbench memory`.
func (o *MemoryOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Peers, "peers", "ours-single", "systems to measure, of "+PeerNames)
	fs.IntVar(&o.Series, "series", 1_000_000, "active series")
	fs.IntVar(&o.Scrapes, "scrapes", 240, "scrapes, 15s apart by their timestamps: 240 are an hour; they are sent as fast as the answers come")
	fs.IntVar(&o.Writers, "c", 4, "concurrent writers")
	fs.BoolVar(&o.Budget, "budget", false, "measure ours once more with -memory.allowedBytes at half of what it took, or half of that for each vmstorage")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "how long to wait after the last request")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the data")
	o.register(fs)
}

// MemoryResult is how much memory the series took.
type MemoryResult struct {
	Origin
	Series   int          `json:"series"`
	Scrapes  int          `json:"scrapes"`
	Budget   int64        `json:"budget,omitempty"` // of each process that keeps data; 0 is its default
	Steps    []MemoryStep `json:"steps"`
	Error    string       `json:"error,omitempty"` // it did not survive
	Flushed  *Usage       `json:"flushed,omitempty"`
	Stored   int64        `json:"stored"`
	Expected int64        `json:"expected"`
}

// MemoryStep is a tenth of the scrapes.
type MemoryStep struct {
	Scrapes int   `json:"scrapes"` // so far
	Anon    int64 `json:"anon"`    // at its end
	IngestResult
}

// anonPeak returns the most memory that was seen.
func (r *MemoryResult) anonPeak() int64 {
	most := int64(0)
	for i := range r.Steps {
		most = max(most, r.Steps[i].AnonPeak)
	}
	return most
}

// cpuPerM returns the CPU seconds per million samples of all steps but the first, which registers the series.
func (r *MemoryResult) cpuPerM() float64 {
	cpu, samples := 0.0, int64(0)
	for _, s := range r.Steps[min(1, len(r.Steps)):] {
		cpu, samples = cpu+s.CPUSeconds, samples+s.Samples
	}
	return cpu / float64(samples) * 1e6
}

// Memory measures the memory of active series over time.
func Memory(ctx context.Context, o MemoryOptions) ([]MemoryResult, error) {
	if o.Series < 1 || o.Scrapes < memorySteps || o.Writers < 1 {
		return nil, fmt.Errorf("cannot measure memory: give at least one series and one writer, and at least %d scrapes", memorySteps)
	}
	l, err := o.prepare(o.Peers)
	if err != nil {
		return nil, err
	}
	var results []MemoryResult
	err = o.eachPeer(ctx, splitList(o.Peers), "the memory of "+strconv.Itoa(o.Series)+" series", func(peer string) error {
		first, err := o.measure(ctx, l, peer, 0)
		if err != nil {
			return err
		}
		results = append(results, *first)
		if err := o.record(first); err != nil || !o.Budget || !strings.HasPrefix(peer, "ours-") {
			return err
		}
		limited := *l
		processes := int64(1)
		if peer == "ours-cluster" {
			processes = 2
		}
		budget := first.anonPeak() / 2 / processes
		limited.storageFlags = []string{budgetFlag + strconv.FormatInt(budget, 10)}
		o.logf("measuring %s with %s", peer, limited.storageFlags[0])
		second, err := o.measure(ctx, &limited, peer, budget)
		if err != nil {
			return err
		}
		results = append(results, *second)
		return o.record(second)
	})
	return results, err
}

// measure returns a result with an error text if the server did not survive with a budget.
func (o *MemoryOptions) measure(ctx context.Context, l *launcher, peer string, budget int64) (*MemoryResult, error) {
	r := &MemoryResult{Origin: newOrigin("memory", peer), Scrapes: o.Scrapes, Budget: budget}
	err := o.experiment(ctx, l, &r.Origin, func(s *server) error { return o.fill(ctx, s, r) })
	if err != nil && budget > 0 && ctx.Err() == nil {
		r.Error, err = err.Error(), nil
	}
	return r, err
}

func (o *MemoryOptions) fill(ctx context.Context, s *server, r *MemoryResult) error {
	hosts, err := hostsFor(o.Series)
	if err != nil {
		return err
	}
	load, err := newLoad(loadOptions{url: s.writeURL, writers: o.Writers, hosts: max(hosts, o.Writers), scrapes: o.Scrapes, seed: o.Seed})
	if err != nil {
		return err
	}
	defer load.close()
	r.Series = load.perScan
	done := 0
	for i := range memorySteps {
		n := o.Scrapes*(i+1)/memorySteps - done
		res, err := load.run(ctx, s.pids(), phase{scrapes: n})
		if err != nil {
			return err
		}
		done += n
		res.Memory = nil
		r.Steps = append(r.Steps, MemoryStep{Scrapes: done, Anon: res.After.Anon, IngestResult: *res})
		o.logf("  after %d scrapes %d bytes per series", done, res.After.Anon/int64(r.Series))
	}
	if err := pause(ctx, o.Settle); err != nil {
		return err
	}
	return o.finish(ctx, s, load, r)
}

// finish flushes and counts what is stored.
func (o *MemoryOptions) finish(ctx context.Context, s *server, load *load, r *MemoryResult) error {
	if s.readURL == "" {
		return nil
	}
	if err := s.call(ctx, http.MethodGet, s.flush); err != nil {
		return err
	}
	if err := s.waitIdle(ctx, time.Second); err != nil {
		return err
	}
	u, err := ReadUsage(s.pids())
	if err != nil {
		return err
	}
	r.Flushed = &u
	if r.Budget > 0 { // what is stored is counted by a process that has memory enough to count
		s.stopAll()
		for _, p := range s.storage {
			p.args = slices.DeleteFunc(p.args, func(arg string) bool { return strings.HasPrefix(arg, budgetFlag) })
		}
		if err := s.restartAll(ctx); err != nil {
			return err
		}
	}
	var window Manifest
	r.Expected, window = load.expected(r.Peer)
	r.Stored, err = countSamples(ctx, s, r.Peer, &window)
	return err
}

// table writes a row for each step.
func (r *MemoryResult) table(b *strings.Builder) {
	budget := ""
	if r.Budget > 0 {
		budget = fmt.Sprintf(", each storage process allowed %d MiB", r.Budget/mib)
	}
	fmt.Fprintf(b, "\n### Memory of %s%s\n\n%s active series, %d scrapes 15 s apart.\n\n", r.Peer, budget, thousands(int64(r.Series)), r.Scrapes)
	row(b, "scrapes", "hours", "anonymous, MiB", "bytes per series", "peak, bytes per series", "CPU-s per M samples", "M samples/s", "longest request, ms", "requests sent again")
	ruler(b, 9)
	for _, s := range r.Steps {
		row(b, strconv.Itoa(s.Scrapes), strconv.FormatFloat(float64(s.Scrapes)*scrapeSeconds/3600, 'f', 2, 64), strconv.FormatInt(s.Anon/mib, 10),
			strconv.FormatInt(s.Anon/int64(r.Series), 10), strconv.FormatInt(s.AnonPeak/int64(r.Series), 10),
			strconv.FormatFloat(s.CPUPerM, 'f', 3, 64), strconv.FormatFloat(s.PerSecond/1e6, 'f', 2, 64), strconv.FormatFloat(s.MaxMs, 'f', 0, 64), strconv.FormatInt(s.Retries, 10))
	}
	fmt.Fprintf(b, "\nWithout the registration %.3f CPU-s per M samples; peak %d MiB%s. ", r.cpuPerM(), r.anonPeak()/mib, r.ofBudget())
	switch {
	case r.Error != "":
		fmt.Fprintf(b, "It did not survive: %s\n", r.Error)
	case r.Flushed == nil:
		b.WriteString("It keeps nothing to be counted.\n")
	default:
		fmt.Fprintf(b, "After a flush %d MiB. All samples stored: %s.\n", r.Flushed.Anon/mib, yesOrHowMany(r.Stored, r.Expected))
	}
}

// ofBudget formats the peak as a part of what the processes are allowed.
func (r *MemoryResult) ofBudget() string {
	if r.Budget == 0 {
		return ""
	}
	processes := int64(1)
	if r.Peer == "ours-cluster" {
		processes = 2
	}
	return fmt.Sprintf(", %.2f times what the storage is allowed", float64(r.anonPeak())/float64(r.Budget*processes))
}

// yesOrHowMany formats whether everything was stored.
func yesOrHowMany(stored, expected int64) string {
	if stored == expected {
		return "yes"
	}
	return fmt.Sprintf("no: %s of %s", thousands(stored), thousands(expected))
}
