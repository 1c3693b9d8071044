package service

import (
	"bytes"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// lockedLog takes a log.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what has come since the last time.
func (l *lockedLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// TestSecretsAreReadAgain changes a file, takes it away, empties it and brings it back, while the watch looks.
func TestSecretsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "secret")
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var first, second flagvalue.Secret
		var plain string
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		fs.Var(&first, "metricsAuthKey", "")
		RegisterShared(fs, func(fs *flag.FlagSet) { fs.Var(&second, "metricsAuthKey", "") })
		fs.StringVar(&plain, "pushmetrics.header", "", "") // is read by others without a lock
		write("one\n")
		if _, err := parseArgs(fs, []string{"-metricsAuthKey=file://" + path, "-pushmetrics.header=file://" + path}, func(string) (string, bool) { return "", false }); err != nil {
			t.Fatal(err)
		}
		found, err := findSecrets(fs)
		if err != nil || len(found) != 2 || first.Get() != "one" || second.Get() != "one" || plain != "one" {
			t.Fatalf("%d secrets, %v: %q, %q, %q", len(found), err, first.Get(), second.Get(), plain)
		}
		var log lockedLog
		set := metrics.NewSet()
		l, err := logger.New(&logger.Config{}, &log, set)
		if err != nil {
			t.Fatal(err)
		}
		w := watchSecrets(found, &Env{Logger: l, Metrics: set})
		failures := 0
		for _, step := range []struct {
			change     func()
			want, says string
			fails      bool
		}{
			{func() { write("two\n") }, "two", "-metricsAuthKey has changed", false},
			{func() { write("") }, "two", "it is empty", true},
			{func() { _ = os.Remove(path) }, "two", "no such file", true},
			{func() { write("two") }, "two", "can be read from its file again", false},
			{func() { write("three") }, "three", "has changed", false},
		} {
			step.change()
			time.Sleep(5 * secretFileInterval) // of the bubble
			synctest.Wait()
			if first.Get() != step.want || second.Get() != step.want || plain != "one" {
				t.Errorf("got %q, %q and %q; want %q", first.Get(), second.Get(), plain, step.want)
			}
			if said := log.take(); strings.Count(said, "\n") != 1 || !strings.Contains(said, step.says) || strings.Contains(said, step.want) {
				t.Errorf("the log has %q; want one line with %q", said, step.says)
			}
			if step.fails {
				failures += 5
			}
			if n := w.errors.Get(); n != uint64(failures) {
				t.Errorf("%d failures are counted; want %d", n, failures)
			}
		}
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSecretsOfURLs asks a URL not more often than it should be.
func TestSecretsOfURLs(t *testing.T) {
	var asked atomic.Int64
	var text atomic.Value
	text.Store("one")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte(text.Load().(string)))
	}))
	defer server.Close()
	var key flagvalue.Secret
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.Var(&key, "flagsAuthKey", "")
	if err := fs.Parse([]string{"-flagsAuthKey=" + server.URL}); err != nil {
		t.Fatal(err)
	}
	found, err := findSecrets(fs)
	if err != nil || len(found) != 1 || key.Get() != "one" {
		t.Fatalf("%v: %q", err, key.Get())
	}
	w := &secretWatch{secrets: found, logger: logger.Discard(), errors: metrics.NewSet().Counter("errors")}
	text.Store("two")
	now := time.Now()
	for range 10 {
		w.check(t.Context(), found[0], now)
		now = now.Add(secretFileInterval)
	}
	if n := asked.Load(); n != 3 || key.Get() != "two" {
		t.Errorf("the URL was asked %d times in 20 s, and the key is %q", n, key.Get())
	}
	server.Close()
	w.check(t.Context(), found[0], now.Add(time.Hour))
	if key.Get() != "two" || w.errors.Get() != 1 {
		t.Errorf("without the server the key is %q, with %d failures", key.Get(), w.errors.Get())
	}
}
