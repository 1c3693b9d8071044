package apptest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestProtocolGuides runs the commands of docs/protocols against a single node with other addresses.
func TestProtocolGuides(t *testing.T) {
	t.Parallel()
	graphite, openTSDB := freeAddr(t), freeAddr(t)
	s := startSingle(t, "-graphiteListenAddr="+graphite, "-opentsdbListenAddr="+openTSDB)
	path := func(addr string) string { return strings.Replace(addr, ":", "/", 1) }
	addrs := strings.NewReplacer("127.0.0.1:8428", s.addr, "127.0.0.1:4242", openTSDB, "127.0.0.1/2003", path(graphite), "127.0.0.1/4242", path(openTSDB))
	for _, name := range []string{"text", "json-lines", "csv", "native", "influx", "graphite", "opentelemetry", "opentsdb", "newrelic", "datadog", "zabbix"} {
		text, err := os.ReadFile("../../docs/protocols/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		outputs := 0
		for _, step := range guideSteps(string(text)) {
			eventually(t, patience, step.commands, func() error { // over TCP nobody says when all is stored
				out, err := exec.Command("bash", "-c", "set -euo pipefail\n"+addrs.Replace(step.commands)).CombinedOutput()
				if err == nil && step.output != "" && strings.TrimSpace(string(out)) != strings.TrimSpace(step.output) {
					err = fmt.Errorf("prints %s; the guide says %s", out, step.output)
				}
				return err
			})
			if step.output != "" {
				outputs++
			}
		}
		if outputs == 0 {
			t.Errorf("the guide of %s shows no output", name)
		}
	}
}

// TestStopStoresLines: what a sender wrote over TCP, and was not told to be stored, is stored when the process is stopped by SIGTERM.
func TestStopStoresLines(t *testing.T) {
	t.Parallel()
	graphite := freeAddr(t)
	c := startCluster(t, clusterOptions{insertArgs: []string{"-graphiteListenAddr=" + graphite}})
	const lines = 20_000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "stopped;i=%d 1 1717200000\n", i)
	}
	conn, err := net.Dial("tcp", graphite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text.String()); err != nil || conn.Close() != nil {
		t.Fatal(err)
	}
	c.insert.stop(syscall.SIGTERM)
	get(t, c.readURL("0")+"/api/v1/query", "query", "count(stopped)", "time", "1717200000").want(t, http.StatusOK, fmt.Sprintf(`"%d"`, lines))
}

// TestLinesWaitForTheStorage: lines over TCP which come while all storage nodes are down are stored once these are back.
func TestLinesWaitForTheStorage(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	c := startCluster(t, clusterOptions{insertArgs: []string{"-influxListenAddr=" + addr}})
	for _, n := range c.storage {
		n.kill()
	}
	const lines = 1000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "waited,i=%d f=1 1717200000\n", i)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text.String()); err != nil || conn.Close() != nil {
		t.Fatal(err)
	}
	c.insert.waitLog("^cannot store lines of TCP or UDP, trying again")
	for _, n := range c.storage {
		n.restart()
	}
	eventually(t, patience, "the lines", func() error {
		a := get(t, c.readURL("0")+"/api/v1/query", "query", "count(waited_f)", "time", "1717200000")
		if !strings.Contains(a.body, fmt.Sprintf(`"%d"`, lines)) {
			return errors.New(a.String())
		}
		return nil
	})
}

// TestCollectd lets collectd send what it measures by all the protocols it knows, and checks that we understand all of it.
func TestCollectd(t *testing.T) {
	t.Parallel()
	collectd := peer(t, "collectd")
	graphite, openTSDB, influx := freeAddr(t), freeAddr(t), freeAddr(t)
	s := startSingle(t, "-graphiteListenAddr="+graphite, "-opentsdbListenAddr="+openTSDB, "-influxListenAddr="+influx)
	dir := t.TempDir()
	port := func(addr string) string { _, port, _ := strings.Cut(addr, ":"); return port }
	config := fmt.Sprintf(`
Hostname "test-host"
BaseDir %q
PIDFile "%s/pid"
TypesDB "/usr/share/collectd/types.db"
Interval 1
LoadPlugin cpu
LoadPlugin load
LoadPlugin memory
LoadPlugin write_graphite
LoadPlugin write_tsdb
LoadPlugin write_influxdb_udp
<Plugin write_graphite>
  <Node "tcp">
    Host "127.0.0.1"
    Port "%s"
    Protocol "tcp"
    Prefix "tcp."
  </Node>
  <Node "udp">
    Host "127.0.0.1"
    Port "%s"
    Protocol "udp"
    Prefix "udp."
    UseTags true
  </Node>
</Plugin>
<Plugin write_tsdb>
  <Node>
    Host "127.0.0.1"
    Port "%s"
    HostTags "dc=eu"
  </Node>
</Plugin>
<Plugin write_influxdb_udp>
  Server "127.0.0.1" "%s"
</Plugin>
`, dir, dir, port(graphite), port(graphite), port(openTSDB), port(influx))
	if err := os.WriteFile(dir+"/collectd.conf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(collectd, "-f", "-C", dir+"/collectd.conf")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	})
	for _, selector := range []string{`{__name__=~"tcp[.]test-host[.]load[.].+"}`, `{__name__=~"udp[.].+",host="test-host",plugin="load"}`, `{dc="eu",fqdn="test-host"}`, `{__name__=~"load_.+",host="test-host"}`} {
		eventually(t, patience, selector+" of collectd: "+out.String(), func() error {
			if a := get(t, s.url("/api/v1/series"), "match[]", selector); !strings.Contains(a.body, "__name__") {
				return errors.New(a.String())
			}
			return nil
		})
	}
	for line := range strings.Lines(get(t, s.url("/metrics")).want(t, http.StatusOK).body) {
		if strings.HasPrefix(line, "vm_rows_invalid_total") && !strings.HasSuffix(line, " 0\n") {
			t.Error(line)
		}
	}
}
