package bench

import (
	"context"
	"errors"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestLoad: all series arrive in order, whatever the number of writers, and the count of what was acknowledged is right.
func TestLoad(t *testing.T) {
	before := goleak.IgnoreCurrent()
	series := map[int]int{}
	for _, writers := range []int{1, 3} {
		db := newFakeDB(t)
		l, err := newLoad(loadOptions{url: db.URL + "/api/v1/write", writers: writers, hosts: 4, scrapes: 5, perBody: 700, churn: 1, churnEvery: 3, seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		first, err := l.run(t.Context(), []int{os.Getpid()}, phase{scrapes: 1})
		if err != nil {
			t.Fatal(err)
		}
		second, _, err := l.send(t.Context(), phase{scrapes: 4})
		if err != nil {
			t.Fatal(err)
		}
		l.close()
		// At the fourth scrape all hosts are renamed, which ends all series.
		if l.perScan != 4*1098 || first.Samples != 4*1098 || second.Samples != 5*4*1098 || l.created() != 2*4*1098 || int64(len(db.series)) != l.created() {
			t.Errorf("%d series a scrape, %d and %d samples, %d series of which %d arrived", l.perScan, first.Samples, second.Samples, l.created(), len(db.series))
		}
		if first.AnonPeak < first.After.Anon || len(first.Memory) < 2 || first.MaxMs < first.P50Ms {
			t.Errorf("got %+v", first)
		}
		numbers := checkArrived(t, db, l)
		if want, _ := l.expected("ours-single"); numbers != want {
			t.Errorf("%d numbers arrived; want %d", numbers, want)
		}
		if want, _ := l.expected("prometheus"); want != first.Samples+second.Samples {
			t.Errorf("Prometheus should count %d", want)
		}
		series[writers] = len(db.series)
		db.Close()
	}
	if series[1] != series[3] {
		t.Errorf("series by writers: %v", series)
	}
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}

// checkArrived checks the order and the times and returns how many numbers there are.
func checkArrived(t *testing.T, db *fakeDB, l *load) int64 {
	t.Helper()
	_, window := l.expected("")
	numbers := int64(0)
	for key, samples := range db.series {
		last := l.startMs - 1
		for _, s := range samples {
			if s.Timestamp <= last || s.Timestamp > window.EndMs {
				t.Fatalf("%s has a sample at %d, after %d", key, s.Timestamp, last)
			}
			last = s.Timestamp
			if !math.IsNaN(s.Value) {
				numbers++
			}
		}
	}
	return numbers
}

// TestLoadEnds: a phase ends with its time, with the context, and with an error of the server.
func TestLoadEnds(t *testing.T) {
	before := goleak.IgnoreCurrent()
	db := newFakeDB(t)
	start := func(rate float64) *load {
		l, err := newLoad(loadOptions{url: db.URL + "/api/v1/write", writers: 2, hosts: 2, scrapes: 5, perBody: 100, rate: rate})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		return l
	}
	if res, _, err := start(5000).send(t.Context(), phase{scrapes: math.MaxInt32, forTime: 200 * time.Millisecond}); err != nil || res.Samples == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := start(1).send(ctx, phase{scrapes: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	db.refuse = func(int) int { return http.StatusBadRequest }
	if _, _, err := start(0).send(t.Context(), phase{scrapes: 1}); err == nil || !strings.Contains(err.Error(), "status 400") {
		t.Errorf("got %v", err)
	}
	db.Close()
	goleak.VerifyNone(t, before)
}

// TestExperiments runs the experiments against floor servers, which are this test binary.
func TestExperiments(t *testing.T) {
	before := goleak.IgnoreCurrent()
	lab := Lab{Bin: t.TempDir(), Dir: t.TempDir(), Out: t.TempDir() + "/out.jsonl", Self: []string{os.Args[0]}}
	scale, err := Scale(t.Context(), ScaleOptions{Lab: lab, Peers: "floor-lookup,ours-single", Writers: "1,2", Series: "1000,3000", Samples: 9000, CellTime: time.Minute, Timeout: time.Minute})
	if err != nil || len(scale) != 1 || len(scale[0].Cells) != 4 {
		t.Fatalf("%+v, %v", scale, err)
	}
	for _, c := range scale[0].Cells {
		if c.Error != "" || c.Register.Samples != int64(c.Active) || c.Steady.Samples < 9000/2 || c.Active%1098 != 0 {
			t.Errorf("got %+v: %+v", c, c.Steady)
		}
	}
	churn, err := Churn(t.Context(), ChurnOptions{
		Lab: lab, Peers: "floor-decode", Repeat: 2, Hosts: 3, Scrapes: 4, Fraction: 1, Every: 2, Writers: 2, StormTime: 200 * time.Millisecond, KnownRate: 20000, NewRate: 20000,
	})
	if err != nil || len(churn) != 2 || churn[0].Created != 2*3*1098 || churn[0].Steady.Samples != 4*3*1098 || churn[0].Storm.Samples == 0 {
		t.Errorf("%+v, %v", churn, err)
	}
	memory, err := Memory(t.Context(), MemoryOptions{Lab: lab, Peers: "floor-lookup", Series: 2196, Scrapes: 15, Writers: 2, Budget: true})
	if err != nil || len(memory) != 1 || len(memory[0].Steps) != memorySteps || memory[0].Steps[9].Scrapes != 15 || memory[0].anonPeak() == 0 {
		t.Errorf("%+v, %v", memory, err)
	}
	soak, err := Soak(t.Context(), SoakOptions{Lab: lab, Peers: "floor-decode", For: 500 * time.Millisecond, Probe: 200 * time.Millisecond, Fraction: 0.2, Hosts: 2, Writers: 2, Look: 50 * time.Millisecond})
	if err != nil || len(soak) != 1 || soak[0].HighestRate <= soak[0].Rate || soak[0].Load.Samples == 0 {
		t.Errorf("%+v, %v", soak, err)
	}
	var records Records
	file, err := os.Open(lab.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := records.Read(file); err != nil || records.Len() != 5 {
		t.Errorf("read %d results, %v", records.Len(), err)
	}
	table := records.Table("")
	for _, want := range []string{"Scaling of floor-lookup", "### Churn", "Memory of floor-lookup", "keeps nothing to be counted", "Steady load of floor-decode", "MiB a minute"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is not in\n%s", want, table)
		}
	}
	goleak.VerifyNone(t, before)
}

func TestExperimentRefusals(t *testing.T) {
	lab := Lab{Dir: t.TempDir(), Self: []string{"/bin/false"}}
	for text, run := range map[string]func() error{
		"-writers=x": func() error { _, err := Scale(t.Context(), ScaleOptions{Lab: lab, Writers: "x"}); return err },
		"empty -series": func() error {
			_, err := Scale(t.Context(), ScaleOptions{Lab: lab, Writers: "1"})
			return err
		},
		"no peer": func() error {
			_, err := Scale(t.Context(), ScaleOptions{Lab: lab, Writers: "1", Series: "1"})
			return err
		},
		"-churn-every": func() error { _, err := Churn(t.Context(), ChurnOptions{Lab: lab}); return err },
		"10 scrapes": func() error {
			_, err := Memory(t.Context(), MemoryOptions{Lab: lab, Series: 1, Writers: 1})
			return err
		},
		"-for": func() error { _, err := Soak(t.Context(), SoakOptions{Lab: lab}); return err },
		"-fraction": func() error {
			_, err := Soak(t.Context(), SoakOptions{Lab: lab, For: time.Second, Hosts: 1, Writers: 1})
			return err
		},
		"no such query": func() error {
			_, err := Soak(t.Context(), SoakOptions{Lab: lab, For: time.Second, Hosts: 1, Writers: 1, Rate: 1, Queries: "nosuch"})
			return err
		},
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v; want %q in it", err, text)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		costs []float64
		want  string
	}{{nil, "not known"}, {[]float64{1}, "not known"}, {[]float64{1, 1.25, 0.5}, "pass: 1.25 times the first"}, {[]float64{2, 1, 2.6}, "FAIL: 1.30 times the first"}} {
		if got := verdict(tc.costs); got != tc.want {
			t.Errorf("%v: %s; want %s", tc.costs, got, tc.want)
		}
	}
	r := ScaleResult{Cells: []ScaleCell{{Writers: 1, Series: 10, Active: 10, Steady: &IngestResult{Samples: 1, CPUPerM: 1}, Register: &IngestResult{}}, {Writers: 4, Series: 10, Error: "too slow"}}}
	if r.Flat() {
		t.Error("a cell that failed is flat")
	}
	r.Cells[1] = ScaleCell{Writers: 4, Series: 10, Active: 10, Steady: &IngestResult{Samples: 1, CPUPerM: 1.2}, Register: &IngestResult{}}
	if !r.Flat() {
		t.Error("1.2 is not flat")
	}
	r.Cells[1].Steady.CPUPerM = 1.3
	if r.Flat() {
		t.Error("1.3 is flat")
	}
}

// TestSoakChecks: each check can fail.
func TestSoakChecks(t *testing.T) {
	good := func() SoakResult {
		stored := int64(5)
		r := SoakResult{Rate: 100, MaxWriteMs: 50, MaxQueryMs: 70, Asked: 3, QueryMaxMs: 60, Stored: &stored, ExpectedRows: 5, Load: &IngestResult{PerSecond: 99, MaxMs: 40}}
		for i := range 30 {
			r.Load.Memory = append(r.Load.Memory, MemoryPoint{float64(i), int64(100+i%7) * mib})
			r.Parts = append(r.Parts, PartsPoint{float64(i), float64(10 + i%3)})
		}
		return r
	}
	if r := good(); !r.Passed() {
		t.Errorf("got %+v", r.checks())
	}
	for name, spoil := range map[string]func(*SoakResult){
		"rate":   func(r *SoakResult) { r.Load.PerSecond = 90 },
		"memory": func(r *SoakResult) { r.Load.Memory[29].Anon = 200 * mib },
		"write":  func(r *SoakResult) { r.Load.MaxMs = 51 },
		"again":  func(r *SoakResult) { r.Load.Retries = 1 },
		"query":  func(r *SoakResult) { r.QueryMaxMs = 71 },
		"failed": func(r *SoakResult) { r.QueryErrors = 1 },
		"parts":  func(r *SoakResult) { r.Parts[29].Parts = 30 },
		"lost":   func(r *SoakResult) { r.ExpectedRows = 6 },
	} {
		r := good()
		spoil(&r)
		if r.Passed() {
			t.Errorf("%s: it passed", name)
		}
	}
}

func TestThirdsAndSlope(t *testing.T) {
	points := []MemoryPoint{{0, 10}, {1, 20}, {2, 30}, {3, 40}, {4, 50}, {5, 60}, {6, 5}}
	if got := thirds(points, memoryAt); got != [3]float64{20, 40, 60} {
		t.Errorf("got %v", got)
	}
	if got := slope(points[:6], memoryAt); math.Abs(got-10) > 1e-9 {
		t.Errorf("the slope is %g", got)
	}
	if slope(points[:1], memoryAt) != 0 || slope[MemoryPoint](nil, memoryAt) != 0 || thirds[MemoryPoint](nil, memoryAt) != [3]float64{} {
		t.Error("too few points have a slope")
	}
}

func TestSpreadAndGroups(t *testing.T) {
	for want, values := range map[string][]float64{"": {math.NaN()}, "1.50": {1.5, math.Inf(1)}, "2.00 (1.00-9.00)": {9, 1, 2}} {
		if got := spreadOf(2, values); got != want {
			t.Errorf("%v: %q; want %q", values, got, want)
		}
	}
	groups := groupBy([]string{"b", "a", "b"}, func(s *string) string { return *s })
	if len(groups) != 2 || len(groups[0]) != 2 || groups[1][0] != "a" {
		t.Errorf("got %v", groups)
	}
}

func TestCountParts(t *testing.T) {
	var requests []string
	page := "vm_parts{type=\"storage/small\"} 3\nvm_parts{type=\"storage/big\"} 2\nvm_parts{type=\"indexdb\"} 9\nother 1\n"
	s := answering(t, page, &requests)
	n, ok := countParts(t.Context(), &server{storage: []*process{{health: s.URL + "/health"}, {health: s.URL + "/health"}}})
	if !ok || n != 10 || requests[0] != "/metrics?" {
		t.Errorf("%g, %v, %q", n, ok, requests)
	}
	if _, ok := countParts(t.Context(), &server{}); ok {
		t.Error("nobody has parts")
	}
}
