package apptest

import (
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
	for _, name := range []string{"influx", "graphite", "opentsdb"} {
		text, err := os.ReadFile("../../docs/protocols/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		outputs := 0
		for _, step := range guideSteps(string(text)) {
			eventually(t, patience, step.commands, func() error { // over TCP nobody says when all is stored
				out, err := exec.Command("bash", "-c", "set -euo pipefail\n"+addrs.Replace(step.commands)).CombinedOutput()
				if err == nil && step.output != "" && string(out) != step.output {
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
