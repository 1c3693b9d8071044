package nodelist

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// fakeDNS knows names, and may be away.
type fakeDNS struct {
	mu    sync.Mutex
	srv   map[string][]*net.SRV
	hosts map[string][]string
	err   error
}

func (d *fakeDNS) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *fakeDNS) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return name, d.srv[name], d.err
}

func (d *fakeDNS) LookupHost(_ context.Context, host string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hosts[host], d.err
}

func listOptions(dns Resolver, filter string, given ...string) Options {
	cfg := &Config{Nodes: flagvalue.Strings(given), Interval: flagvalue.Duration(2 * time.Second), Filter: filter}
	return Options{Config: cfg, DefaultPort: "8401", Resolver: dns, Logger: logger.Discard(), Metrics: metrics.NewSet()}
}

func newList(dns Resolver, filter string, given ...string) (*List, error) {
	return New(context.Background(), listOptions(dns, filter, given...))
}

// text lists nodes with what is dialled when that differs from the name.
func text(nodes []Node) string {
	var out []string
	for _, n := range nodes {
		s := n.String()
		if n.Addr != n.Name {
			s += ">" + n.Addr
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSources(t *testing.T) {
	dns := &fakeDNS{
		srv:   map[string][]*net.SRV{"_vm": {{Target: "b.svc.", Port: 8401}, {Target: "a.svc.", Port: 9000}, {Target: "a.svc.", Port: 8400}}},
		hosts: map[string][]string{"headless": {"10.0.0.2", "10.0.0.1", "fd00::1"}},
	}
	file := filepath.Join(t.TempDir(), "nodes")
	write(t, file, "# all of them\nz:1\n\n g2/y # the other room\n  x:8401\n")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/list" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("web:1\n"))
	}))
	defer server.Close()
	for _, c := range []struct {
		given  string
		filter string
		want   string
	}{
		{given: "vmstorage-0.svc:8401 10.0.0.1 [::1]:9 ::1", want: "vmstorage-0.svc:8401 10.0.0.1>10.0.0.1:8401 [::1]:9 ::1>[::1]:8401"},
		{given: "g1/a g2/b:1 c", want: "g1/a>a:8401 g2/b:1 c>c:8401"},
		{given: "file:" + file, want: "g2/y>y:8401 x:8401 z:1"},
		{given: "g1/file:" + file, want: "g1/x:8401 g1/z:1 g2/y>y:8401"},
		{given: "z:1 file:" + file + " x", want: "z:1 x>x:8401 g2/y>y:8401"}, // each once, and what is given first
		{given: "file:" + server.URL + "/list", want: "web:1"},
		{given: "r/file:" + server.URL + "/list", want: "r/web:1"},
		{given: "srv+_vm", want: "a.svc:8400 a.svc:9000 b.svc:8401"},
		{given: "g1/srv+_vm c:8400", filter: ":8401$", want: "c:8400 g1/b.svc:8401"}, // not for what is given one by one
		{given: "dns+headless", want: "10.0.0.1:8401 10.0.0.2:8401 [fd00::1]:8401"},
		{given: "g/dns+headless:7", want: "g/10.0.0.1:7 g/10.0.0.2:7 g/[fd00::1]:7"},
		{given: "a srv+nosuch", want: "a>a:8401"},
	} {
		l, err := newList(dns, c.filter, strings.Fields(c.given)...)
		if err != nil {
			t.Errorf("%s: %s", c.given, err)
			continue
		}
		if got := text(l.Nodes()); got != c.want {
			t.Errorf("%s: got %s; want %s", c.given, got, c.want)
		}
	}
	for given, want := range map[string]string{
		"": "at least one", "a:1 b:1 a:1": "twice", "a a:8401": "twice", "a:1 g/a:1": "twice", "/a": "group", "a/b/c": "want host:port", "g1/": "want host:port", "file:": "want host:port",
		"srv+": "want host:port", "srv+nosuch": "names none", "dns+nosuch": "names none", "file:/no/such/file": "no such file", "file:" + server.URL + "/gone": "404", "http://x/y": "group",
	} {
		if _, err := newList(dns, "", strings.Fields(given)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v; want %q in it", given, err, want)
		}
	}
	if _, err := newList(dns, "(", "a"); err == nil || !strings.Contains(err.Error(), "-storageNode.filter") {
		t.Errorf("a bad filter: %v", err)
	}
	if _, err := newList(dns, "^nothing$", "srv+_vm"); err == nil {
		t.Error("a filter that leaves nothing is accepted")
	}
}

// TestChanges follows sources which change, fail, and come back.
func TestChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes")
	write(t, file, "a:1\nb:1\n")
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{srv: map[string][]*net.SRV{"_vm": {{Target: "s.", Port: 1}}}}
		l, err := newList(dns, "", "fixed:1", "file:"+file, "g/srv+_vm")
		if err != nil {
			t.Fatal(err)
		}
		if got := text(l.Nodes()); got != "fixed:1 a:1 b:1 g/s:1" {
			t.Fatalf("at the start: %s", got)
		}
		var got []string
		var refuse error
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Run(ctx, func(nodes []Node) error {
				dns.mu.Lock()
				defer dns.mu.Unlock()
				got = append(got, text(nodes))
				return refuse
			})
		}()
		expect := func(when string, want ...string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			dns.mu.Lock()
			defer dns.mu.Unlock()
			if !slices.Equal(got, want) {
				t.Fatalf("%s: got %q; want %q", when, got, want)
			}
			got = nil
		}
		time.Sleep(time.Second)
		expect("nothing has changed")
		write(t, file, "b:1\nc:1\n")
		expect("one has come and one has gone", "fixed:1 b:1 c:1 g/s:1")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		dns.set(func() { dns.err = errors.New("no DNS") })
		expect("nothing can be read")
		write(t, file, "\n")
		expect("the file names nobody")
		write(t, file, "c:1\n")
		dns.set(func() { dns.err, dns.srv["_vm"] = nil, []*net.SRV{{Target: "s.", Port: 1}, {Target: "t.", Port: 1}} })
		dns.set(func() { refuse = errors.New("not now") })
		expect("both are back, nobody wants it", "fixed:1 c:1 g/s:1 g/t:1")
		dns.set(func() { refuse = nil })
		expect("tried again", "fixed:1 c:1 g/s:1 g/t:1")
		expect("that is all")
		if n := l.failures.Get(); n != 4 {
			t.Errorf("%d failures are counted; want 4", n)
		}
		if n := l.changes.Get(); n != 2 {
			t.Errorf("%d changes are counted; want 2", n)
		}
		cancel()
		<-done
	})
}

func FuzzParseNodes(f *testing.F) {
	f.Add("a:1\ng/b # c\n")
	f.Add("file:x\n")
	f.Add("a/b/c")
	f.Add("[::1]:9\n\r\n#")
	f.Fuzz(func(t *testing.T, in string) {
		nodes, err := parseNodes(strings.NewReader(in), "", "8401")
		if err != nil {
			return
		}
		for _, n := range nodes {
			s, err := parseSource(n.String())
			if err != nil || s.kind != kindStatic || s.group != n.Group || s.rest != n.Name || n.Addr == "" {
				t.Errorf("%+v does not survive printing: %+v, %v", n, s, err)
			}
		}
	})
}
