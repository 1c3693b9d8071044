package apptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// crowdSize is the number of series of the largest metric. VMCLUSTER_LIMITS_SERIES overrides it.
func crowdSize(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("VMCLUSTER_LIMITS_SERIES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("cannot parse VMCLUSTER_LIMITS_SERIES=%q: %s", text, err)
		}
		return n
	}
	if testing.Short() {
		t.Skip("writes and reads many series")
	}
	return 200_000
}

// crowd is a server with very many series.
type crowd struct {
	size      int
	at        int64 // when the series have their samples, in Unix milliseconds
	write     string
	read      string
	promql    string
	status    string // base of the lists of queries
	storage   []string
	processes []*process
}

// allowed returns how many bytes a process may plan with: 256 MiB for each half of a million series.
func (c *crowd) allowed() int64 { return max(1, int64(c.size)/500_000) * 256 << 20 }

// most returns how many bytes it may really take at any time, with Go's room for garbage, buffers of requests and connections, mapped files, and
// the code itself: a quarter more, and 64 MiB.
func (c *crowd) most() int64 { return c.allowed()/4*5 + 64<<20 }

// args are the flags of all processes.
func (c *crowd) args(more ...string) []string {
	return append([]string{fmt.Sprintf("-memory.allowedBytes=%d", c.allowed())}, more...)
}

func startCrowd(t *testing.T, kind string) *crowd {
	t.Helper()
	c := &crowd{size: crowdSize(t), at: anHourAgo()}
	// What is tested is memory: no request waits for a place or runs out of time, and a selector may find everything.
	many := c.args("-search.maxConcurrentRequests=64", "-search.maxUniqueTimeseries=100000000")
	patient := append(many, "-search.maxQueryDuration=1h", "-search.maxLabelsAPIDuration=1h")
	if kind == "single" {
		s := startSingle(t, patient...)
		c.write, c.read, c.promql, c.status = s.url(""), s.url(""), s.url("/promql"), s.url("")
		c.processes, c.storage = []*process{s.process}, []string{s.addr}
	} else {
		cl := startCluster(t, clusterOptions{storageArgs: many, insertArgs: c.args(), selectArgs: patient})
		c.write, c.read, c.status = cl.writeURL("0"), cl.readURL("0"), cl.readURL("0")
		c.promql = strings.TrimSuffix(c.read, "/prometheus") + "/promql"
		c.processes = []*process{cl.insert, cl.sel}
		for _, n := range cl.storage {
			c.processes, c.storage = append(c.processes, n.process), append(c.storage, n.http)
		}
	}
	c.fill(t)
	return c
}

// groups is how many values the label g has.
const groups = 1000

// fill writes the series: big with a sample per series, one with a series per group, and small.
func (c *crowd) fill(t *testing.T) {
	t.Helper()
	const perRequest = 20_000
	var body bytes.Buffer
	send := func() {
		request(t, http.MethodPost, c.write+"/api/v1/import/prometheus", body.Bytes()).want(t, http.StatusNoContent)
		body.Reset()
	}
	for i := range c.size {
		fmt.Fprintf(&body, "big{g=\"%d\",i=\"%08d\"} %d %d\n", i%groups, i, i, c.at)
		if i%perRequest == perRequest-1 {
			send()
		}
	}
	for i := range groups {
		fmt.Fprintf(&body, "one{g=\"%d\"} 1 %d\n", i, c.at)
	}
	fmt.Fprintf(&body, "small 7 %d\n", c.at)
	send()
	status, text, err := skim(t.Context(), c.read+"/api/v1/query?"+encode([]string{"query", "count({__name__=~'big|one|small'})", "time", seconds(c.at)}))
	if err != nil || status != http.StatusOK || !strings.Contains(text, fmt.Sprintf(`,"%d"]`, c.size+groups+1)) {
		t.Fatalf("%d series were sent; counting them gives %v, status %d, %s", c.size+groups+1, err, status, text)
	}
}

// greedy is a request that asks for very much.
type greedy struct {
	name, url string
	args      []string
	refusal   string // an expression for a part of the error; empty when the request is to be answered
	either    bool   // it may be answered or refused
}

// hour are the arguments of a range around the samples with 241 points.
func (c *crowd) hour() []string {
	return []string{"start", seconds(c.at - 1800_000), "end", seconds(c.at + 1800_000), "step", "15"}
}

// greedyRequests are those which a dashboard or a person could send by mistake. What is refused names a limit.
func (c *crowd) greedyRequests() []greedy {
	const memory = "memory"
	day := []string{"start", seconds(c.at - 3600_000), "end", seconds(c.at + 3600_000)}
	year := []string{"start", seconds(c.at - 365*24*3600_000), "end", seconds(c.at), "step", "1"}
	ranged := func(query string) []string { return append([]string{"query", query}, c.hour()...) }
	return []greedy{
		{name: "one to very many", url: c.read + "/api/v1/query_range", args: ranged("max_over_time(big[1h]) * on(g) group_left() max_over_time(one[1h])"), refusal: memory},
		{name: "cross join", url: c.read + "/api/v1/query_range", args: ranged("max_over_time(big[1h]) * on() group_left() max_over_time(big[2h])"), refusal: memory},
		{name: "cross join at a time", url: c.read + "/api/v1/query", args: []string{"query", "big * on() group_left() big", "time", seconds(c.at)}, refusal: "duplicate|memory"},
		{name: "second by second over a year", url: c.read + "/api/v1/query_range", args: append([]string{"query", "small"}, year...), refusal: "-search.maxPointsPerTimeseries"},
		{name: "subquery of a year", url: c.read + "/api/v1/query", args: []string{"query", "max_over_time(small[1y:1s])", "time", seconds(c.at)}, refusal: "-search.maxPointsSubqueryPerTimeseries"},
		{name: "all series over a range", url: c.read + "/api/v1/query_range", args: ranged("max_over_time({__name__=~'b.+|s.+',i=~'.*[0-9].*'}[1h])"), refusal: memory},
		{name: "quantile", url: c.read + "/api/v1/query_range", args: ranged("quantile(0.9, max_over_time(big[1h]))"), refusal: memory},
		{name: "aggregate by regex", url: c.read + "/api/v1/query_range", args: ranged("sum(max_over_time({__name__=~'b.*',i=~'.*[0-9].*'}[1h])) by (g)")},
		{name: "aggregate of series that are read", url: c.read + "/api/v1/query_range", args: append(ranged("sum(max_over_time({i=~'.+'}[1h]))"), "pushdown", "0")},
		{name: "all series at a time", url: c.read + "/api/v1/query", args: []string{"query", "big", "time", seconds(c.at)}, refusal: memory, either: true},
		{name: "list of series", url: c.read + "/api/v1/series", args: append([]string{"match[]", "big"}, day...), refusal: "-search.maxSeries"},
		{name: "values", url: c.read + "/api/v1/label/i/values", args: day},
		{name: "export", url: c.read + "/api/v1/export", args: append([]string{"match[]", "big"}, day...)},
		{name: "PromQL, one to very many", url: c.promql + "/api/v1/query_range", args: ranged("max_over_time(big[1h]) * on(g) group_left() max_over_time(one[1h])"), refusal: memory},
		{name: "PromQL, subquery of a year", url: c.promql + "/api/v1/query", args: []string{"query", "max_over_time(small[1y:1s])", "time", seconds(c.at)}, refusal: "-search.maxPointsSubqueryPerTimeseries"},
		{name: "Graphite", url: strings.TrimSuffix(c.read, "/prometheus") + "/graphite/render", args: []string{
			"target", "seriesByTag('name=big')", "format", "json", "from", seconds(c.at - 1800_000), "until", seconds(c.at + 1800_000),
		}, refusal: "memory|-search.maxGraphiteSeries"},
	}
}

// check sends the request and returns what is wrong with the answer.
func (g *greedy) check() error {
	status, text, err := skim(context.Background(), g.url+"?"+encode(g.args))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", g.name, err)
	case status == http.StatusOK && (g.refusal == "" || g.either):
		return nil
	case (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) && strings.Contains(text, "-memory.allowedBytes"):
		return nil // others have the memory at the moment
	case g.refusal == "" || status != http.StatusUnprocessableEntity && status != http.StatusBadRequest || !regexp.MustCompile(g.refusal).MatchString(text):
		return fmt.Errorf("%s: status %d, %s; want %q", g.name, status, text, g.refusal)
	case !strings.Contains(text, "duplicate") && !regexp.MustCompile(`\d+.*-(search|memory)\.[a-zA-Z]+`).MatchString(text):
		return fmt.Errorf("%s: %s does not name the limit, its figure and its flag", g.name, text)
	}
	return nil
}

// skim returns the status of an answer and the beginning of its body, all of which it reads.
func skim(ctx context.Context, target string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := (&http.Client{Transport: client.Transport}).Do(req) // which waits for as long as it takes
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	const most = 4096
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return resp.StatusCode, string(text), err
}

// TestGreedyQueries: requests that ask for far too much, many at once and again and again, are refused with a message that says what to do, or
// are answered piece by piece. The processes stay within their memory, and small queries and writes do not notice. It is not run beside
// other tests, since it takes all CPUs.
func TestGreedyQueries(t *testing.T) {
	for _, kind := range []string{"single", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			c := startCrowd(t, kind)
			before := c.peaks(t)
			beside := startBeside(c)
			c.sendGreedy(t)
			beside.stop(t)
			for i, p := range c.processes {
				peak := peakMemory(t, p)
				t.Logf("%s: %d MiB at most, %d MiB before the queries", p.spec.name, peak>>20, before[i]>>20)
				if peak > c.most() {
					t.Errorf("%s has taken %d bytes; allowed are %d, and %d with all that cannot be planned", p.spec.name, peak, c.allowed(), c.most())
				}
				if !p.running() {
					t.Errorf("%s has ended", p.spec.name)
				}
			}
		})
	}
}

// sendGreedy sends all requests several times from several clients.
func (c *crowd) sendGreedy(t *testing.T) {
	const clients, rounds = 3, 2
	requests := c.greedyRequests()
	var wg sync.WaitGroup
	for k := range clients {
		wg.Go(func() {
			for i := range rounds * len(requests) {
				g := &requests[(i*(k+1)+k)%len(requests)]
				if err := g.check(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func (c *crowd) peaks(t *testing.T) []int64 {
	var list []int64
	for _, p := range c.processes {
		list = append(list, peakMemory(t, p))
	}
	return list
}

// peakMemory returns the most memory a process has ever had, in bytes.
func peakMemory(t *testing.T, p *process) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%s: %s", p.spec.name, err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("%s: no VmHWM in %s", p.spec.name, status)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// beside are small queries and writes while something else goes on.
type beside struct {
	c     *crowd
	quit  chan struct{}
	wg    sync.WaitGroup
	asked int
	wrote int

	mu     sync.Mutex
	failed []error
}

func startBeside(c *crowd) *beside {
	b := &beside{c: c, quit: make(chan struct{})}
	b.wg.Go(func() { b.repeat(&b.asked, b.ask) })
	b.wg.Go(func() { b.repeat(&b.wrote, b.write) })
	return b
}

func (b *beside) repeat(n *int, f func(i int) error) {
	for {
		select {
		case <-b.quit:
			return
		default:
		}
		if err := f(*n); err != nil {
			b.mu.Lock()
			b.failed = append(b.failed, err)
			b.mu.Unlock()
		}
		*n++
	}
}

func (b *beside) ask(int) error {
	status, text, err := skim(context.Background(), b.c.read+"/api/v1/query?"+encode([]string{"query", "small", "time", seconds(b.c.at), "nocache", "1"}))
	if err == nil && (status != http.StatusOK || !strings.Contains(text, `,"7"]`)) {
		err = fmt.Errorf("a small query is answered with status %d, %s", status, text)
	}
	return err
}

func (b *beside) write(i int) error {
	a, err := remoteWrite(b.c.write+"/api/v1/write", series("__name__", "beat").at(b.c.at+int64(i), float64(i)))
	if err == nil && a.status != http.StatusNoContent {
		err = fmt.Errorf("write %d: %s", i, a)
	}
	return err
}

// stop ends it, and fails the test unless everything went well and all that was acknowledged is there.
func (b *beside) stop(t *testing.T) {
	t.Helper()
	close(b.quit)
	b.wg.Wait()
	const shown = 5
	for _, err := range b.failed[:min(shown, len(b.failed))] {
		t.Error(err)
	}
	if len(b.failed) > 0 || b.asked == 0 || b.wrote == 0 {
		t.Errorf("%d of %d small queries and %d writes failed", len(b.failed), b.asked, b.wrote)
	}
	if got := export(t, b.c.read, "beat").samples(); got != b.wrote-failedWrites(b.failed) {
		t.Errorf("%d samples of %d are there", got, b.wrote)
	}
	t.Logf("%d small queries and %d writes beside", b.asked, b.wrote)
}

func failedWrites(list []error) int {
	n := 0
	for _, err := range list {
		if strings.HasPrefix(err.Error(), "write ") {
			n++
		}
	}
	return n
}

// TestHangUp: when the client of a long query goes away, the query ends, at the storage nodes too.
func TestHangUp(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"single", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			c := startCrowd(t, kind)
			week := []string{"start", seconds(c.at - 7*24*3600_000), "end", seconds(c.at), "step", "30"}
			const query = "sum(max_over_time(big[1h]))"
			for _, more := range [][]string{{"pushdown", "1"}, {"pushdown", "0"}} {
				c.hangUp(t, c.read+"/api/v1/query_range?"+encode(append(append([]string{"query", query, "timeout", "10m"}, week...), more...)), query)
			}
			c.hangUp(t, c.read+"/api/v1/export?"+url.Values{"match[]": {"big"}}.Encode(), "")
		})
	}
}

// hangUp sends a request, waits until it is being worked on, goes away, and waits until nobody works on it any more.
func (c *crowd) hangUp(t *testing.T, target, query string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err == nil {
			req.Header.Set("Accept-Encoding", "identity") // the more there is to send, the better
			var resp *http.Response
			if resp, err = client.Do(req); err == nil { // an export has begun; nobody reads it
				<-ctx.Done()
				resp.Body.Close()
			}
		}
		ended <- err
	}()
	eventually(t, patience, "the query runs: "+query, func() error { return c.working(query, true) })
	cancel()
	<-ended
	eventually(t, patience, "nobody works on "+query, func() error { return c.working(query, false) })
}

// working returns an error unless the request is, or is not, worked on. Queries are listed; exports show in the metrics only.
func (c *crowd) working(query string, want bool) error {
	a, err := do(http.MethodGet, c.status+"/api/v1/status/active_queries", nil)
	if err != nil {
		return err
	}
	if query != "" && strings.Contains(a.body, "max_over_time") != want {
		return errors.New(a.String())
	}
	running := 0.0
	for _, addr := range c.storage {
		name := "vm_vmselect_concurrent_requests_current"
		if len(c.storage) == 1 {
			name = "vm_concurrent_select_current"
		}
		n, err := metric(addr, name)
		if err != nil {
			return err
		}
		running += n
	}
	if running > 0 != want {
		return fmt.Errorf("%v requests are worked on", running)
	}
	return nil
}
