package lineports

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/app/internal/insertapi"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var updateReplay = flag.Bool("update-replay", false, "rewrite the list of recorded requests which are answered otherwise")

const differsFile = "testdata/differs.txt"

// stored keeps rows in memory.
type stored struct {
	mu    sync.Mutex
	rows  []string // series, a tab, timestamp, a tab, value
	fails int      // so many times it is not reachable
}

func (s *stored) Ingest(_ context.Context, b *model.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails > 0 {
		s.fails--
		return errkind.New(errkind.Unavailable, "no storage")
	}
	for i := range b.Len() {
		for _, x := range b.Samples(i) {
			s.rows = append(s.rows, fmt.Sprintf("%s\t%d\t%v", model.SeriesKeyString(b.Key(i)), x.Timestamp, x.Value))
		}
	}
	return nil
}

func (s *stored) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.rows
	s.rows = nil
	return rows
}

// servers are the ports of one process.
type servers struct {
	*stored
	set   *metrics.Set
	addrs map[string]string // by name of port
	stop  func()
}

// start opens all ports, those of the single node or of vminsert.
func start(t testing.TB, single bool, args ...string) *servers {
	t.Helper()
	var lines Config
	var insert insertapi.Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	insert.RegisterFlags(fs)
	lines.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	s := &servers{stored: &stored{}, set: metrics.NewSet(), addrs: map[string]string{}}
	style := insertapi.Cluster
	if single {
		style = insertapi.SingleNode
	}
	api := insertapi.New(insertapi.Options{Ingester: s, Logger: logger.Discard(), Metrics: s.set, Config: &insert, PathStyle: style})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !api.Handle(w, r) {
			http.Error(w, "unsupported path requested", http.StatusBadRequest)
		}
	}))
	s.addrs["http"] = web.Listener.Addr().String()
	ports := map[string]*string{"influx": &lines.influx, "graphite": &lines.graphite, "opentsdb": &lines.openTSDB, "opentsdbhttp": &lines.openTSDBOfHTTP}
	for name, addr := range ports {
		*addr = freeAddr(t)
		s.addrs[name] = *addr
	}
	var stops []func() error
	err := lines.start(api, logger.Discard(), s.set, func(_ string, f func() error) { stops = append(stops, f) })
	s.stop = sync.OnceFunc(func() {
		web.Close()
		for _, stop := range stops {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(s.stop)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// freeAddr returns an address whose port is free for TCP and UDP. It is below those which the system gives to connections, of which other
// tests make many.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 30_000+rand.IntN(2500))
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", addr)
		_ = tcp.Close()
		if err == nil {
			_ = udp.Close()
			return addr
		}
	}
	t.Fatal("no port is free for TCP and UDP")
	return ""
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20s", what)
		}
	}
}

// recorded is a request to the system we replace, with its answer and what it stored.
type recorded struct {
	ID       string            `json:"id"`
	On       string            `json:"on"`
	Port     string            `json:"port"`
	Args     []string          `json:"args"`
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Query    string            `json:"query"`
	Headers  map[string]string `json:"headers"`
	Body     string            `json:"body"`
	BodyB64  string            `json:"body_b64"`
	Status   int               `json:"status"`
	Want     map[string]string `json:"response_headers"`
	Response *string           `json:"response"`
	Stored   *[]struct {
		Metric     map[string]string `json:"metric"`
		Values     []any             `json:"values"`
		Timestamps []int64           `json:"timestamps"`
	} `json:"stored"`
}

// TestReplay makes the recorded requests and compares the answers and what was stored. Those which differ are listed with the reason; a listed one that
// agrees fails as well. -update-replay rewrites the list.
func TestReplay(t *testing.T) {
	differs := readDiffers(t)
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	running := map[string]*servers{}
	scanner := bufio.NewScanner(f)
	var list strings.Builder
	for scanner.Scan() {
		var r recorded
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		which := r.On + strings.Join(r.Args, " ")
		if running[which] == nil {
			running[which] = start(t, r.On == "single", r.Args...)
		}
		diff := r.replay(t, running[which])
		reason, listed := differs[r.ID]
		switch {
		case diff != "" && !listed && !*updateReplay:
			t.Errorf("%s: %s %s%s?%s: %s", r.ID, r.Method, r.On, r.Path, r.Query, diff)
		case diff == "" && listed && !*updateReplay:
			t.Errorf("%s agrees, but %s lists it", r.ID, differsFile)
		}
		if diff != "" {
			fmt.Fprintf(&list, "%s | %s\n", r.ID, reason)
		}
	}
	if *updateReplay {
		const head = "# Recorded requests which are answered otherwise: id | reason. Rewritten by: go test -run TestReplay -update-replay\n"
		if err := os.WriteFile(differsFile, []byte(head+list.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func readDiffers(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(differsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	differs := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([^#|]+) \| (.*)$`).FindAllSubmatch(text, -1) {
		if differs[string(m[1])] = string(m[2]); len(m[2]) == 0 && !*updateReplay {
			t.Errorf("%s has no reason for %s", differsFile, m[1])
		}
	}
	return differs
}

// replay makes the request and says what differs, or nothing.
func (r *recorded) replay(t *testing.T, s *servers) string {
	t.Helper()
	before := time.Now()
	var out []string
	if r.Status == 0 {
		conn, err := net.Dial(strings.ToLower(r.Method), s.addrs[r.Port])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, r.Body); err != nil || conn.Close() != nil {
			t.Fatal(err)
		}
	} else {
		out = r.ask(t, s)
	}
	if r.Stored == nil {
		s.take()
		return strings.Join(out, "\n")
	}
	var want []string
	for _, x := range *r.Stored {
		for i, v := range x.Values {
			want = append(want, fmt.Sprintf("%s\t%s\t%s", labelsString(x.Metric), timeString(x.Timestamps[i], r.isNow(x.Timestamps[i])), numberString(valueOf(v))))
		}
	}
	slices.Sort(want)
	var got []string
	if r.Status == 0 {
		eventually(t, r.ID, func() bool { got = append(got, s.take()...); return len(got) >= len(want) })
	} else {
		got = s.take()
	}
	tenant := regexp.MustCompile(`^tenant \S+ `)
	isNaN := func(row string) bool { return strings.HasSuffix(row, "\tNaN") }
	if !slices.ContainsFunc(want, isNaN) {
		got = slices.DeleteFunc(got, isNaN) // of NaN exports write stale markers only
	}
	for i, row := range got {
		cells := strings.Split(tenant.ReplaceAllString(row, ""), "\t")
		var at int64
		var value float64
		if _, err := fmt.Sscan(cells[1], &at); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(cells[2], &value); err != nil {
			t.Fatal(err)
		}
		got[i] = cells[0] + "\t" + timeString(at, at >= before.Truncate(time.Second).UnixMilli()) + "\t" + numberString(value)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		out = append(out, fmt.Sprintf("stored %q, want %q", got, want))
	}
	return strings.Join(out, "\n")
}

// isNow reports whether a recorded time is the one at which the sample came.
func (r *recorded) isNow(ms int64) bool {
	return ms > time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
}

// timeString returns a time as it is compared: of now whether it is of whole seconds.
func timeString(ms int64, now bool) string {
	if now {
		return fmt.Sprint("now, whole seconds: ", ms%1000 == 0)
	}
	return fmt.Sprint(ms)
}

func labelsString(metric map[string]string) string {
	var labels []model.Label
	for name, value := range metric {
		labels = append(labels, model.Label{Name: name, Value: value})
	}
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, labels)
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(model.SeriesKeyString(key), "tenant 0:0 ")
}

// ask makes an HTTP request and says what differs in its answer.
func (r *recorded) ask(t *testing.T, s *servers) (out []string) {
	t.Helper()
	body := []byte(r.Body)
	if r.BodyB64 != "" {
		var err error
		if body, err = base64.StdEncoding.DecodeString(r.BodyB64); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequest(r.Method, "http://"+s.addrs[r.Port]+r.Path+"?"+r.Query, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range r.Headers {
		req.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != r.Status {
		out = append(out, fmt.Sprintf("status %d, want %d: %s", resp.StatusCode, r.Status, answer))
	}
	for name, want := range r.Want {
		if got := resp.Header.Get(name); got != want {
			out = append(out, fmt.Sprintf("header %s: %q, want %q", name, got, want))
		}
	}
	if r.Response != nil && string(answer) != *r.Response {
		out = append(out, fmt.Sprintf("answer %q, want %q", answer, *r.Response))
	}
	return out
}

// valueOf returns a recorded value: exports write infinities as texts.
func valueOf(v any) float64 {
	switch v {
	case "Infinity":
		return math.Inf(1)
	case "-Infinity":
		return math.Inf(-1)
	}
	f, ok := v.(float64)
	if !ok {
		return math.NaN()
	}
	return f
}

// numberString returns a value with as many digits as the recorded ones have been stored with.
func numberString(v float64) string { return fmt.Sprintf("%.12g", v) }
