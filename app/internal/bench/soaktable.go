package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What may grow between the second and the last third of a soak: a sawtooth of flushes is no growth.
const (
	memoryGrowth = 1.25
	partsGrowth  = 1.5
	partsSlack   = 4 // parts
)

// thirds returns the highest of the values in each third of the time.
func thirds[T any](points []T, at func(*T) (seconds, value float64)) [3]float64 {
	var highest [3]float64
	if len(points) == 0 {
		return highest
	}
	end, _ := at(&points[len(points)-1])
	for i := range points {
		t, v := at(&points[i])
		n := min(2, int(3*t/max(end, 1e-9)))
		highest[n] = max(highest[n], v)
	}
	return highest
}

// slope returns the growth of values per second by least squares.
func slope[T any](points []T, at func(*T) (seconds, value float64)) float64 {
	n, st, sv, stt, stv := float64(len(points)), 0.0, 0.0, 0.0, 0.0
	for i := range points {
		t, v := at(&points[i])
		st, sv, stt, stv = st+t, sv+v, stt+t*t, stv+t*v
	}
	if d := n*stt - st*st; d > 0 {
		return (n*stv - st*sv) / d
	}
	return 0
}

func memoryAt(p *MemoryPoint) (seconds, value float64) { return p.Seconds, float64(p.Anon) }
func partsAt(p *PartsPoint) (seconds, value float64)   { return p.Seconds, p.Parts }

// soakCheck is one thing that must hold.
type soakCheck struct {
	what, found string
	ok          bool
}

func (r *SoakResult) checks() []soakCheck {
	memory, parts := thirds(r.Load.Memory, memoryAt), thirds(r.Parts, partsAt)
	kept := r.Load.PerSecond / r.Rate
	list := []soakCheck{
		{"the rate is kept, 95 % of it at least", fmt.Sprintf("%.0f of %.0f samples/s", r.Load.PerSecond, r.Rate), kept >= 0.95},
		{fmt.Sprintf("highest memory of the last third at most %.2f times that of the second", memoryGrowth), fmt.Sprintf("%.0f, %.0f, %.0f MiB", memory[0]/mib, memory[1]/mib, memory[2]/mib),
			memory[2] <= memoryGrowth*memory[1]},
		{fmt.Sprintf("no request longer than %.0f ms", r.MaxWriteMs), fmt.Sprintf("p50 %.1f, p99 %.1f, longest %.0f ms", r.Load.P50Ms, r.Load.P99Ms, r.Load.MaxMs), r.Load.MaxMs <= r.MaxWriteMs},
		{"no request refused", plural(int(r.Load.Retries), "request") + " sent again", r.Load.Retries == 0},
	}
	if r.Asked > 0 {
		list = append(list,
			soakCheck{fmt.Sprintf("no query longer than %.0f ms", r.MaxQueryMs), fmt.Sprintf("p50 %.1f, longest %.0f ms of %d", r.QueryP50Ms, r.QueryMaxMs, r.Asked), r.QueryMaxMs <= r.MaxQueryMs},
			soakCheck{"no query fails", strings.TrimSpace(fmt.Sprintf("%d failed. %s", r.QueryErrors, r.LastError)), r.QueryErrors == 0})
	}
	if len(r.Parts) > 0 {
		list = append(list, soakCheck{fmt.Sprintf("merges keep up: parts of the last third at most %.1f times those of the second and %d", partsGrowth, partsSlack),
			fmt.Sprintf("%.0f, %.0f, %.0f", parts[0], parts[1], parts[2]), parts[2] <= partsGrowth*parts[1]+partsSlack})
	}
	if r.Stored != nil {
		list = append(list, soakCheck{"all acknowledged samples are stored", yesOrHowMany(*r.Stored, r.ExpectedRows), *r.Stored == r.ExpectedRows})
	}
	return list
}

// Passed reports whether everything holds that must.
func (r *SoakResult) Passed() bool {
	return !slices.ContainsFunc(r.checks(), func(c soakCheck) bool { return !c.ok })
}

// table writes a row for each check and some of the memory's course.
func (r *SoakResult) table(b *strings.Builder) {
	fmt.Fprintf(b, "\n### Steady load of %s\n\n%s series, %.0f samples/s for %.0f s", r.Peer, thousands(int64(r.Series)), r.Rate, r.Load.WallSeconds)
	if r.HighestRate > 0 {
		fmt.Fprintf(b, ", %.0f %% of the %.0f it can take", 100*r.Rate/r.HighestRate, r.HighestRate)
	}
	fmt.Fprintf(b, "; %.3f CPU-s per M samples, queries included.\n\n", r.Load.CPUPerM)
	row(b, "what must hold", "first, second and last third, or what was found", "")
	ruler(b, 3)
	for _, c := range r.checks() {
		verdict := "pass"
		if !c.ok {
			verdict = "FAIL"
		}
		row(b, c.what, c.found, verdict)
	}
	b.WriteString("\n")
	header, cells := []string{"seconds"}, []string{"anonymous memory, MiB"}
	for _, p := range r.course() {
		header, cells = append(header, strconv.FormatFloat(p.Seconds, 'f', 0, 64)), append(cells, strconv.FormatInt(p.Anon/mib, 10))
	}
	row(b, header...)
	ruler(b, len(header))
	row(b, cells...)
	second := r.Load.Memory[len(r.Load.Memory)/2:]
	fmt.Fprintf(b, "\nThe memory's slope over the second half is %+.2f MiB a minute.\n", slope(second, memoryAt)*60/mib)
}

// course returns eleven moments of the memory's course, the first and the last among them.
func (r *SoakResult) course() []MemoryPoint {
	var points []MemoryPoint
	last := len(r.Load.Memory) - 1
	for i := range 11 {
		if last >= 0 {
			points = append(points, r.Load.Memory[last*i/10])
		}
	}
	return points
}
