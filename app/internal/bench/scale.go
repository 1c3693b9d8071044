package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// flat is how much more a sample may cost in any cell of a row or a column than in its first.
const flat = 1.25

// ScaleOptions say how many writers and series to measure.
type ScaleOptions struct {
	Lab
	Peers    string
	Writers  string
	Series   string
	Samples  float64 // of a cell
	CellTime time.Duration
	Timeout  time.Duration
	Settle   time.Duration
	Seed     uint64
}

// RegisterFlags registers the flags of `vmbench scale`.
func (o *ScaleOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Peers, "peers", "ours-single", "systems to measure, of "+PeerNames)
	fs.StringVar(&o.Writers, "writers", "1,4", "numbers of concurrent writers")
	fs.StringVar(&o.Series, "series", "10000,1000000,3000000", "numbers of active series")
	fs.Float64Var(&o.Samples, "samples", 6e6, "samples of a cell, after the registration and one more scrape; at least one scrape is sent")
	fs.DurationVar(&o.CellTime, "cell-time", time.Minute, "how long to send these samples at most")
	fs.DurationVar(&o.Timeout, "cell-timeout", 5*time.Minute, "how long a cell may take at most with its start and its registration")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "how long background work after the last request counts")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the data")
	o.register(fs)
}

// ScaleResult is a table of costs.
type ScaleResult struct {
	Origin
	Cells []ScaleCell `json:"cells"`
}

// ScaleCell is the cost with so many writers and series.
type ScaleCell struct {
	Writers  int           `json:"writers"`
	Series   int           `json:"series"` // as asked for
	Active   int           `json:"active"`
	Error    string        `json:"error,omitempty"`
	Register *IngestResult `json:"register,omitempty"`
	Steady   *IngestResult `json:"steady,omitempty"`
}

// Scale measures what a sample costs with more and more writers and series, each in a fresh server. The
// error tells whether a measurement failed, not whether the costs are flat.
func Scale(ctx context.Context, o ScaleOptions) ([]ScaleResult, error) {
	writers, err := parseInts("-writers", o.Writers)
	if err != nil {
		return nil, err
	}
	series, err := parseInts("-series", o.Series)
	if err != nil {
		return nil, err
	}
	l, err := o.prepare(o.Peers)
	if err != nil {
		return nil, err
	}
	var results []ScaleResult
	err = o.eachPeer(ctx, splitList(o.Peers), "more writers and series", func(peer string) error {
		r := ScaleResult{Origin: newOrigin("scale", peer)}
		for _, s := range series {
			for _, w := range writers {
				cell := ScaleCell{Writers: w, Series: s}
				if err := o.cell(ctx, l, &r.Origin, &cell); errors.Is(err, errMissing) || ctx.Err() != nil {
					return err
				} else if err != nil {
					cell.Error = err.Error()
					o.logf("  failed: %s", err)
				}
				r.Cells = append(r.Cells, cell)
			}
		}
		results = append(results, r)
		return o.record(&r)
	})
	return results, err
}

func parseInts(name, list string) ([]int, error) {
	var numbers []int
	for _, f := range splitList(list) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("cannot use %s=%s: give numbers from 1 on, separated by commas", name, list)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("cannot use an empty %s: give numbers, separated by commas", name)
	}
	return numbers, nil
}

// hostsFor returns how many hosts have about so many series.
func hostsFor(series int) (int, error) {
	perHost, err := hostSeries()
	if err != nil {
		return 0, err
	}
	return max(1, (series+perHost/2)/perHost), nil
}

func (o *ScaleOptions) cell(ctx context.Context, l *launcher, origin *Origin, c *ScaleCell) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("it took longer than -cell-timeout=%s", o.Timeout))
	defer cancel()
	hosts, err := hostsFor(c.Series)
	if err != nil {
		return err
	}
	hosts = max(hosts, c.Writers)
	return o.experiment(ctx, l, origin, func(s *server) error {
		o.logf("  %d writers, %d series", c.Writers, c.Series)
		load, err := newLoad(loadOptions{url: s.writeURL, writers: c.Writers, hosts: hosts, scrapes: 2 + o.scrapes(c.Series), seed: o.Seed})
		if err != nil {
			return err
		}
		defer load.close()
		c.Active = load.perScan
		if c.Register, err = load.run(ctx, s.pids(), phase{scrapes: 1, settle: o.Settle}); err != nil {
			return err
		}
		c.Register.Memory = nil
		if _, _, err = load.send(ctx, phase{scrapes: 1}); err != nil {
			return err
		}
		c.Steady, err = load.run(ctx, s.pids(), phase{scrapes: o.scrapes(c.Active), forTime: o.CellTime, settle: o.Settle})
		if c.Steady != nil {
			c.Steady.Memory = nil
		}
		return err
	})
}

func (o *ScaleOptions) scrapes(series int) int { return max(1, int(o.Samples/float64(series)+0.5)) }

// costAt returns the CPU seconds per million samples of a cell.
func (r *ScaleResult) costAt(writers, series int) (cost float64, problem string) {
	for _, c := range r.Cells {
		if c.Writers != writers || c.Series != series {
			continue
		}
		if c.Steady == nil || c.Steady.Samples == 0 {
			return 0, "failed: " + c.Error
		}
		return c.Steady.CPUPerM, ""
	}
	return 0, "not measured"
}

// verdict tells whether all costs are at most flat times the first.
func verdict(costs []float64) string {
	if len(costs) < 2 {
		return "not known"
	}
	worst := 0.0
	for _, c := range costs[1:] {
		worst = max(worst, c/costs[0])
	}
	if worst > flat {
		return fmt.Sprintf("FAIL: %.2f times the first", worst)
	}
	return fmt.Sprintf("pass: %.2f times the first", worst)
}

// axes returns the writers and the series of the cells in the order of their first appearance.
func (r *ScaleResult) axes() (writers, series []int) {
	for _, c := range r.Cells {
		writers, series = appendNew(writers, c.Writers), appendNew(series, c.Series)
	}
	return writers, series
}

func appendNew(list []int, n int) []int {
	for _, have := range list {
		if have == n {
			return list
		}
	}
	return append(list, n)
}

// table writes a row for each number of series and a column for each number of writers.
func (r *ScaleResult) table(b *strings.Builder) {
	writers, series := r.axes()
	fmt.Fprintf(b, "\n### Scaling of %s\n\nCPU-s per M samples of series that are known, on %d CPUs; flat is at most %.2f times the first of the row or column.\n\n", r.Peer, r.CPUs, flat)
	header := []string{"active series"}
	for _, w := range writers {
		header = append(header, plural(w, "writer"))
	}
	row(b, append(header, "flat over writers", "registration, CPU-s per M series", "memory, anonymous bytes per series")...)
	ruler(b, len(header)+3)
	columns := make([][]float64, len(writers))
	for _, s := range series {
		cells := []string{thousands(int64(s))}
		var costs []float64
		for i, w := range writers {
			cost, problem := r.costAt(w, s)
			if problem == "" {
				columns[i], costs = append(columns[i], cost), append(costs, cost)
				problem = strconv.FormatFloat(cost, 'f', 3, 64)
			}
			cells = append(cells, problem)
		}
		row(b, append(cells, verdict(costs), r.registrations(s), r.memories(s))...)
	}
	cells := []string{"flat over series"}
	for _, c := range columns {
		cells = append(cells, verdict(c))
	}
	row(b, append(cells, "", "", "")...)
}

// each joins what f says of the cells of a number of series.
func (r *ScaleResult) each(series int, f func(*ScaleCell) string) string {
	var parts []string
	for i := range r.Cells {
		if c := &r.Cells[i]; c.Series == series && c.Register != nil {
			parts = append(parts, f(c))
		}
	}
	return strings.Join(parts, ", ")
}

func (r *ScaleResult) registrations(series int) string {
	return r.each(series, func(c *ScaleCell) string { return strconv.FormatFloat(c.Register.CPUPerM, 'f', 2, 64) })
}

func (r *ScaleResult) memories(series int) string {
	return r.each(series, func(c *ScaleCell) string {
		if c.Steady == nil {
			return "?"
		}
		return strconv.FormatInt(c.Steady.AnonPeak/int64(c.Active), 10)
	})
}

// Flat reports whether all cells were measured and all rows and columns are flat.
func (r *ScaleResult) Flat() bool {
	var b strings.Builder
	r.table(&b)
	return !strings.Contains(b.String(), "FAIL") && !strings.Contains(b.String(), "failed:")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
