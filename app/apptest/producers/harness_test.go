package producers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait. It is generous, since the machine may be busy with other things.
const patience = 60 * time.Second

// built are the programs which the first test builds.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	status := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // the system cleans its temporary folder anyway
	}
	os.Exit(status)
}

// program returns the path of a program of this repository, or of a producer that is a program.
func program(t *testing.T, name string) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "producers"); built.err != nil {
			return
		}
		built.err = errors.Join(build("../../..", "./app/vmstorage", "./app/vminsert", "./app/vmselect", "./app/victoria-metrics"),
			build(".", "github.com/prometheus/statsd_exporter"))
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

func build(dir string, packages ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", built.dir + string(filepath.Separator)}, packages...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", packages, err, out)
	}
	return nil
}

// peer returns the path of a program that has to be installed. Without it the test is skipped, or fails if VMCLUSTER_REQUIRE_PEERS is set.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("VMCLUSTER_REQUIRE_PEERS") != "":
		t.Fatalf("%s is not installed, and VMCLUSTER_REQUIRE_PEERS demands it: %s", name, err)
	default:
		t.Skipf("%s is not installed; install it, for example with `apt-get install %s`, to run this test", name, name)
	}
	return path
}

// freeAddr returns an address nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// run starts a program, which is killed at the end of the test, and waits until an URL answers 200.
func run(t *testing.T, path, ready string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if text := log.String(); t.Failed() || strings.Contains(text, "\npanic: ") {
			t.Errorf("%s %s:\n%s", path, args, text[max(0, len(text)-6000):])
		}
	})
	eventually(t, path+" is ready", func() error {
		_, err := get(ready)
		return err
	})
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %s", what, patience, err)
		}
	}
}

func get(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %s", url, resp.StatusCode, body)
	}
	return body, err
}

// target is where producers write to: a single node or a cluster.
type target struct {
	t       *testing.T
	write   string // root of the paths of writes
	read    string // root of the paths of reads
	insert  string // address of the process that takes writes
	lines   string // address at which it takes Influx lines
	carbon  string // address at which it takes Graphite lines
	cluster bool
}

// each runs a test against a single node and against a cluster.
func each(t *testing.T, test func(x *target)) {
	t.Run("single", func(t *testing.T) { test(single(t)) })
	t.Run("cluster", func(t *testing.T) { test(cluster(t)) })
}

func (x *target) lineFlags() []string {
	x.lines, x.carbon = freeAddr(x.t), freeAddr(x.t)
	return []string{"-influxListenAddr=" + x.lines, "-graphiteListenAddr=" + x.carbon, "-httpListenAddr=" + x.insert}
}

func single(t *testing.T) *target {
	t.Helper()
	addr := freeAddr(t)
	x := &target{t: t, write: "http://" + addr, read: "http://" + addr, insert: addr}
	run(t, program(t, "victoria-metrics"), "http://"+addr+"/health", append(x.lineFlags(), "-storageDataPath="+t.TempDir(), "-retentionPeriod=100y")...)
	return x
}

func cluster(t *testing.T) *target {
	t.Helper()
	x := &target{t: t, insert: freeAddr(t), cluster: true}
	insert, sel := []string{}, []string{}
	for range 2 {
		addrs := [3]string{freeAddr(t), freeAddr(t), freeAddr(t)}
		run(t, program(t, "vmstorage"), "http://"+addrs[0]+"/health", "-httpListenAddr="+addrs[0], "-vminsertAddr="+addrs[1], "-vmselectAddr="+addrs[2],
			"-storageDataPath="+t.TempDir(), "-retentionPeriod=100y")
		insert, sel = append(insert, "-storageNode="+addrs[1]), append(sel, "-storageNode="+addrs[2])
	}
	addr := freeAddr(t)
	x.write, x.read = "http://"+x.insert+"/insert/0", "http://"+addr+"/select/0/prometheus"
	run(t, program(t, "vminsert"), "http://"+x.insert+"/health", append(insert, x.lineFlags()...)...)
	run(t, program(t, "vmselect"), "http://"+addr+"/health", append(sel, "-httpListenAddr="+addr, "-search.latencyOffset=0s")...)
	eventually(t, "the cluster is whole", func() error { // nothing is stored of what no node can take
		_, err := get(x.read + "/api/v1/labels")
		return err
	})
	return x
}

// path returns the URL for a path below a protocol's prefix, which the single node has in some protocols only.
func (x *target) path(prefix, path string) string {
	if prefix == "prometheus" && !x.cluster {
		return x.write + path
	}
	return x.write + "/" + prefix + path
}

// samples are what is stored, by series: "timestamp value" for each sample.
type samples map[string][]string

func (s samples) add(series string, timestamp int64, value float64) {
	s[series] = append(s[series], fmt.Sprint(timestamp, " ", value))
}

// series writes labels in the order of their names.
func series(labels map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%s=%q ", name, labels[name])
	}
	return b.String()
}

// export returns all samples that a selector finds.
func (x *target) export(selector string) (samples, error) {
	body, err := get(x.read + "/api/v1/export?start=0&match[]=" + url.QueryEscape(selector))
	if err != nil {
		return nil, err
	}
	all := samples{}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		var s struct {
			Metric     map[string]string
			Values     []float64
			Timestamps []int64
		}
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, err
		}
		for i := range s.Values {
			all.add(series(s.Metric), s.Timestamps[i], s.Values[i])
		}
	}
	return all, lines.Err()
}

// wants waits until a selector finds just what is wanted.
func (x *target) wants(selector string, want samples) {
	x.t.Helper()
	for _, list := range want {
		slices.Sort(list)
	}
	eventually(x.t, selector, func() error {
		got, err := x.export(selector)
		if err != nil {
			return err
		}
		var wrong []string
		for name := range want {
			if slices.Sort(got[name]); !slices.Equal(got[name], want[name]) {
				wrong = append(wrong, fmt.Sprintf("%s has %q, want %q", name, got[name], want[name]))
			}
		}
		for name := range got {
			if want[name] == nil {
				wrong = append(wrong, fmt.Sprintf("%s was not written", name))
			}
		}
		if wrong != nil {
			return errors.New(strings.Join(wrong, "\n"))
		}
		return nil
	})
}
