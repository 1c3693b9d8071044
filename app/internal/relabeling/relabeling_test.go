package relabeling

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/app/internal/reloading"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/relabel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a Reloader with its flags and what it has handed on.
type env struct {
	*Reloader
	t   *testing.T
	set *metrics.Set

	mu   sync.Mutex
	used []int // numbers of rules
}

func newEnv(t *testing.T, args ...string) (*env, error) {
	t.Helper()
	e := &env{t: t, set: metrics.NewSet()}
	var c Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	var err error
	e.Reloader, err = New(Options{Config: &c, Logger: logger.Discard(), Metrics: e.set, Use: func(rules *relabel.Rules) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.used = append(e.used, rules.Len())
	}})
	if err == nil {
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return e, err
}

func mustStart(t *testing.T, args ...string) *env {
	t.Helper()
	e, err := newEnv(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// want waits until the rules handed on and the metrics are as given.
func (e *env) want(used []int, successful, reloads, failed int) {
	e.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := e.check(used, successful, reloads, failed)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func (e *env) check(used []int, successful, reloads, failed int) error {
	var page strings.Builder
	if err := e.set.Write(&page, false); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.used, used) {
		return fmt.Errorf("rules handed on are %v; want %v", e.used, used)
	}
	for name, value := range map[string]int{"last_reload_successful": successful, "reloads_total": reloads, "reloads_errors_total": failed} {
		if line := fmt.Sprintf("vm_relabel_config_%s %d\n", name, value); value >= 0 && !strings.Contains(page.String(), line) {
			return fmt.Errorf("there is no %q in %s", line, page.String())
		}
	}
	if successful == 1 && strings.Contains(page.String(), "success_timestamp_seconds 0\n") {
		return errors.New("no success has a time")
	}
	return nil
}

// reload asks /-/reload and returns the status.
func (e *env) reload(path string) int {
	w := httptest.NewRecorder()
	if !e.Handle(w, httptest.NewRequest(http.MethodPost, path, nil)) {
		return 0
	}
	return w.Code
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const rule = "- {action: drop, if: a}\n"

func TestReload(t *testing.T) {
	t.Setenv("RELABEL_TEST_NAME", "a")
	path := filepath.Join(t.TempDir(), "rules.yml")
	write(t, path, strings.Replace(rule, "a}", "%{RELABEL_TEST_NAME}}", 1))
	e := mustStart(t, "-relabelConfig="+path)
	e.want([]int{1}, 1, 0, 0)
	if status := e.reload("/-/reload"); status != 204 {
		t.Errorf("status %d", status)
	}
	e.want([]int{1}, 1, 1, 0) // nothing has changed
	write(t, path, rule+rule)
	if status := e.reload("/-/reload"); status != 204 {
		t.Errorf("status %d", status)
	}
	e.want([]int{1, 2}, 1, 2, 0)
	write(t, path, rule+"- {action: nosuch}")
	if status := e.reload("/-/reload"); status != 400 {
		t.Errorf("status %d of bad rules", status)
	}
	e.want([]int{1, 2}, 0, 3, 1)
	write(t, path, rule+rule) // what is in use
	if status := e.reload("/-/reload"); status != 204 {
		t.Errorf("status %d", status)
	}
	e.want([]int{1, 2}, 1, 4, 1)
	write(t, path, "")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	e.want([]int{1, 2, 0}, 1, 5, 1)
	if status := e.reload("/-/healthy"); status != 0 {
		t.Errorf("another path has status %d", status)
	}
}

func TestInterval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yml")
	write(t, path, rule)
	e := mustStart(t, "-relabelConfig="+path, "-relabelConfigCheckInterval=1ms")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e.want([]int{1}, 0, -1, -1)
	write(t, path+".new", rule+rule)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	e.want([]int{1, 2}, 1, -1, -1)
}

func TestNothingToRead(t *testing.T) {
	e := mustStart(t, "-reloadAuthKey=secret")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil { // does not end the process
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/-/reload": 401, "/-/reload?authKey=x": 401, "/-/reload?authKey=secret": 204} {
		if status := e.reload(path); status != want {
			t.Errorf("%s: status %d; want %d", path, status, want)
		}
	}
	e.want(nil, 0, 0, 0)
}

func TestURL(t *testing.T) {
	answers := make(chan string, 3) // empty: 502
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := <-answers
		if body == "" {
			w.WriteHeader(http.StatusBadGateway)
		}
		_, _ = w.Write([]byte(body)) // the client says what it misses
	}))
	defer server.Close()
	answers <- rule
	e := mustStart(t, "-relabelConfig="+server.URL)
	e.want([]int{1}, 1, 0, 0)
	answers <- ""
	if status := e.reload("/-/reload"); status != 400 {
		t.Errorf("status %d", status)
	}
	answers <- rule + rule + rule
	if status := e.reload("/-/reload"); status != 204 {
		t.Errorf("status %d", status)
	}
	e.want([]int{1, 3}, 1, 2, 1)
}

func TestRefusedAtStart(t *testing.T) {
	dir := t.TempDir()
	bad, large := filepath.Join(dir, "bad.yml"), filepath.Join(dir, "large.yml")
	write(t, bad, "- {action: nosuch}")
	write(t, large, strings.Repeat("#", reloading.MaxSize+1))
	for path, want := range map[string]string{
		bad:                               `cannot parse relabelling rules of -relabelConfig="` + bad + `": rule 1 in line 1: cannot use action "nosuch"`,
		large:                             "it has more than 16777216 bytes",
		filepath.Join(dir, "no"):          "no such file",
		"http://u:password@127.0.0.1:1/x": `-relabelConfig="http://u:xxxxx@127.0.0.1:1/x"`,
	} {
		if _, err := newEnv(t, "-relabelConfig="+path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "password") {
			t.Errorf("%s: error %v; want %q", path, err, want)
		}
	}
}
