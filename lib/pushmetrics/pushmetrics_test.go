package pushmetrics

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pushed is a request of a pusher.
type pushed struct {
	header http.Header
	body   string
}

// receiver answers with the given status and hands on what it gets.
func receiver(t *testing.T, status int) (base string, requests chan pushed) {
	t.Helper()
	requests = make(chan pushed, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the pusher stops, and a last push follows
		}
		text := string(body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			text = unzip(t, body)
		}
		if r.Method != http.MethodPost || r.URL.RequestURI() != "/api/v1/import/prometheus?token=secret" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		select {
		case requests <- pushed{r.Header, text}:
		default:
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("told")) // the pusher looks at it
	}))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "http://", "http://user:secret@", 1), requests
}

func unzip(t *testing.T, packed []byte) string {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Error(err)
		return ""
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

func config(t *testing.T, args ...string) *Config {
	t.Helper()
	var c Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestPush(t *testing.T) {
	for _, more := range []string{"-pushmetrics.disableCompression=false", "-pushmetrics.disableCompression"} {
		base, requests := receiver(t, http.StatusNoContent)
		set := metrics.NewSet()
		set.Counter("plain_total").Add(3)
		set.Counter(`labelled_total{a="b c{"}`).Add(4)
		p, err := New(Options{
			Config: config(t, "-pushmetrics.url="+base+"/api/v1/import/prometheus?token=secret", "-pushmetrics.interval=10ms", `-pushmetrics.extraLabel=instance="x\"y"`,
				"-pushmetrics.extraLabel=job=z", "-pushmetrics.header=X-Mine: some value", more),
			Logger: logger.Discard(), Metrics: set,
		})
		if err != nil {
			t.Fatal(err)
		}
		p.Start()
		first := <-requests
		for _, want := range []string{`plain_total{instance="x\"y",job="z"} 3` + "\n", `labelled_total{instance="x\"y",job="z",a="b c{"} 4` + "\n", "metrics_push_interval_seconds{"} {
			if !strings.Contains(first.body, want) {
				t.Errorf("%s: want %q in\n%s", more, want, first.body)
			}
		}
		if strings.Contains(first.body, "secret") || strings.Contains(first.body, "token") {
			t.Errorf("credentials are told: %s", first.body)
		}
		if got := first.header.Get("X-Mine"); got != "some value" || (first.header.Get("Content-Encoding") == "gzip") != strings.HasSuffix(more, "=false") {
			t.Errorf("%s: headers %v", more, first.header)
		}
		set.Counter("late_total").Inc()
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		told := false
		for len(requests) > 0 {
			r := <-requests
			told = told || strings.Contains(r.body, "late_total{")
		}
		if !told {
			t.Error("the last push does not tell what was counted last")
		}
	}
}

func TestFailedPush(t *testing.T) {
	base, requests := receiver(t, http.StatusForbidden)
	var text bytes.Buffer
	log, err := logger.New(&logger.Config{MinLevel: "INFO", Format: "default"}, &text, metrics.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	set := metrics.NewSet()
	p, err := New(Options{Config: config(t, "-pushmetrics.url="+base+"/api/v1/import/prometheus?token=secret", "-pushmetrics.interval=10ms"), Logger: log, Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	<-requests
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if p.targets[0].errors.Get() == 0 || p.targets[0].bytes.Get() != 0 {
		t.Error("a push that failed is not counted as such")
	}
	if s := text.String(); !strings.Contains(s, "cannot push metrics to http://127.0.0.1") || !strings.Contains(s, `status 403, "told"`) || strings.Contains(s, "secret") {
		t.Errorf("logged %q", s)
	}
}

func TestNobodyThere(t *testing.T) {
	set := metrics.NewSet()
	p, err := New(Options{Config: config(t, "-pushmetrics.url=http://user:secret@127.0.0.1:1/x", "-pushmetrics.interval=1h"), Logger: logger.Discard(), Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	if err := p.Stop(); err != nil || p.targets[0].errors.Get() != 1 {
		t.Errorf("%v, %d errors; want that of the last push", err, p.targets[0].errors.Get())
	}
	if idle, err := New(Options{Config: config(t), Logger: logger.Discard(), Metrics: set}); err != nil || len(idle.targets) != 0 {
		t.Errorf("without a URL: %v", err)
	}
}

func TestBadFlags(t *testing.T) {
	const fine = "-pushmetrics.url=http://x/"
	for _, args := range [][]string{
		{"-pushmetrics.url=victoria-metrics:8428"}, {"-pushmetrics.url=ftp://x"}, {fine, "-pushmetrics.interval=0s"}, {fine, "-pushmetrics.extraLabel=x"},
		{fine, `-pushmetrics.extraLabel=a="b"c`}, {fine, "-pushmetrics.header=x"},
	} {
		if _, err := New(Options{Config: config(t, args...), Logger: logger.Discard(), Metrics: metrics.NewSet()}); err == nil || !strings.Contains(err.Error(), "-pushmetrics.") {
			t.Errorf("%q gives %v", args, err)
		}
	}
}
