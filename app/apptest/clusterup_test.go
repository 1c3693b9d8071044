package apptest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clusterPorts are the ports of the local cluster before an offset is added.
func clusterPorts() []int { return []int{8400, 8401, 8480, 8481, 8482, 8500, 8501, 8582} }

// freeOffset returns an offset with which all ports of the local cluster, and others that are given, are free.
func freeOffset(t *testing.T, others ...int) int {
	t.Helper()
	for range 100 {
		offset := freePort(t) - clusterPorts()[0]
		free := true
		for _, port := range append(clusterPorts(), others...) {
			ln, err := net.Listen("tcp", loopback(port+offset))
			if err != nil {
				free = false
				break
			}
			ln.Close()
		}
		if free {
			return offset
		}
	}
	t.Fatal("no free ports at the distances the local cluster needs")
	return 0
}

// TestClusterUp: the tool brings up a cluster which holds its own metrics, and takes it down again.
func TestClusterUp(t *testing.T) {
	t.Parallel()
	offset := freeOffset(t)
	data := t.TempDir()
	args := []string{"-bin", filepath.Dir(binary(t, "vmstorage")), "-data", data, "-portOffset=" + strconv.Itoa(offset)}
	up := start(t, spec{binary: "clusterup", args: args})
	defer func() {
		if up.running() { // the test has failed: give it the chance to stop its children
			up.signal(syscall.SIGINT)
			up.wait(startTimeout)
		}
		if t.Failed() {
			showLogs(t, data)
		}
	}()
	read := regexp.MustCompile(`read +(http://\S+)`)
	write := regexp.MustCompile(`write +(http://\S+)`)
	var readURL string
	eventually(t, startTimeout, "URLs on stdout", func() error {
		m, w := read.FindStringSubmatch(up.stdout.String()), write.FindStringSubmatch(up.stdout.String())
		if !up.running() {
			t.Fatalf("it ended: %s", up.stderr)
		}
		if m == nil || w == nil {
			return fmt.Errorf("only %q", up.stdout)
		}
		readURL = m[1]
		if want := "http://" + loopback(8480+offset) + "/insert/0/prometheus/api/v1/write"; w[1] != want {
			t.Fatalf("the write URL is %s; want %s", w[1], want)
		}
		return nil
	})
	// The first thing people do is to paste the example.
	eventually(t, 5*time.Second, "answer to the example query", func() error {
		if got := vector(t, parseQuery(t, get(t, readURL+"/api/v1/query", "query", "sum(process_resident_memory_bytes)by(job)"))); len(got) != 3 {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	children := childrenOf(t, up.cmd.Process.Pid)
	if len(children) != 4 {
		t.Errorf("it has %d child processes", len(children))
	}
	eventually(t, 15*time.Second, "own metrics in the cluster", func() error {
		a, err := do(http.MethodGet, readURL+"/api/v1/query?query=sum(vm_rows_inserted_total)>0", nil)
		if err == nil && !strings.Contains(a.body, `"value":[`) {
			err = fmt.Errorf("%s", a)
		}
		return err
	})
	up.signal(syscall.SIGINT)
	if status := up.wait(startTimeout); status != 0 {
		t.Errorf("it ended with status %d: %s", status, up.stderr)
	}
	for _, pid := range children {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("child process %d is still there", pid)
		}
	}
	if left, err := os.ReadDir(up.dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v in the folder it was started in, %v", left, err)
	}
	again := start(t, spec{binary: "clusterup", args: args}) // on the data that is there
	eventually(t, startTimeout, "the second start", func() error {
		if !up.running() && !again.running() {
			t.Fatalf("it ended: %s", again.stderr)
		}
		if !read.MatchString(again.stdout.String()) {
			return fmt.Errorf("only %q", again.stdout)
		}
		return nil
	})
	again.stop(syscall.SIGTERM)
}

// showLogs shows the logs the tool has left behind.
func showLogs(t *testing.T, data string) {
	showFiles(t, filepath.Join(data, "logs", "*.log"))
}

// showFiles shows the files that match a pattern.
func showFiles(t *testing.T, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		t.Logf("%s (%v):\n%s", f, err, text)
	}
}

// childrenOf returns the processes whose parent is pid.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(files) == 0 {
		t.Skipf("cannot see child processes on this system: %v", err)
	}
	var list []int
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, child)
		}
	}
	return list
}

// TestClusterUpRefusals: what is missing is said before anything starts.
func TestClusterUpRefusals(t *testing.T) {
	t.Parallel()
	offset := freeOffset(t)
	ln, err := net.Listen("tcp", loopback(8500+offset))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	bin := filepath.Dir(binary(t, "vmstorage"))
	r := runToEnd(t, spec{binary: "clusterup", args: []string{"-bin", bin, "-data", t.TempDir(), fmt.Sprintf("-portOffset=%d", offset)}})
	if r.status == 0 || !containsAll(r.stderr, []string{"vmstorage-2", loopback(8500 + offset), "taken", "-portOffset"}) {
		t.Errorf("a taken port: status %d, says %q", r.status, r.stderr)
	}
	free := freeOffset(t)
	r = runToEnd(t, spec{binary: "clusterup", args: []string{"-bin", t.TempDir(), "-data", t.TempDir(), fmt.Sprintf("-portOffset=%d", free)}})
	if r.status == 0 || !containsAll(r.stderr, []string{"vmstorage-1", "cannot start"}) {
		t.Errorf("missing binaries: status %d, says %q", r.status, r.stderr)
	}
}
