package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// node is one process of the cluster.
type node struct {
	name, binary string
	addr         string   // of its HTTP server
	ports        []string // all addresses it listens at
	args         []string
	stopLast     bool

	logPath string
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended; nil before its start
}

// start runs the process in a process group of its own, so that Ctrl-C at the
// terminal reaches it only through stopAll. Died gets the node when it ends.
func (n *node) start(c *cluster, died chan<- *node) error {
	n.logPath = filepath.Join(c.data, "logs", n.name+".log")
	log, err := os.Create(n.logPath)
	if err != nil {
		return fmt.Errorf("cannot create log of %s: %w", n.name, err)
	}
	defer log.Close()
	n.cmd = exec.Command(filepath.Join(c.bin, n.binary), n.args...)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", n.name, err)
	}
	n.done = make(chan struct{})
	go func() {
		_ = n.cmd.Wait() // the log tells more than the status
		close(n.done)
		died <- n
	}()
	return nil
}

func (n *node) waitHealthy(ctx context.Context) error {
	deadline := time.After(30 * time.Second)
	for {
		if resp, err := http.Get("http://" + n.addr + "/health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-n.done:
			return fmt.Errorf("%s ended at its start: %s", n.name, reason(n.logPath))
		case <-deadline:
			return fmt.Errorf("%s does not answer at http://%s/health; see %s", n.name, n.addr, n.logPath)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// reason returns the line of a log which says why the process ended: the fatal one, else the last.
func reason(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	for _, line := range lines {
		if bytes.Contains(line, []byte("\tfatal\t")) {
			return string(line)
		}
	}
	return string(lines[len(lines)-1])
}

// stopAll stops the writers and readers first, then the storage nodes.
func stopAll(nodes []*node) {
	for _, last := range []bool{false, true} {
		var stopping []*node
		for _, n := range nodes {
			if n.done == nil || n.stopLast != last { // never started, or not its turn
				continue
			}
			_ = n.cmd.Process.Signal(os.Interrupt) // it may have ended already
			stopping = append(stopping, n)
		}
		for _, n := range stopping {
			n.waitStopped()
		}
	}
}

func (n *node) waitStopped() {
	select {
	case <-n.done:
		fmt.Println("stopped", n.name)
	case <-time.After(30 * time.Second):
		fmt.Fprintf(os.Stderr, "cluster-up: %s did not stop within 30s and is killed\n", n.name)
		_ = n.cmd.Process.Kill() // it may have ended in the meantime
		<-n.done
	}
}

// feeder copies the processes' metrics into the cluster, as a scraper would.
type feeder struct {
	insertURL string
	nodes     []*node
	client    http.Client
}

func newFeeder(insertURL string, nodes []*node) *feeder {
	return &feeder{insertURL: insertURL, nodes: nodes, client: http.Client{Timeout: 4 * time.Second}}
}

func (f *feeder) feed(ctx context.Context) error {
	for _, n := range f.nodes {
		if err := f.feedNode(ctx, n); err != nil {
			return fmt.Errorf("cannot feed the cluster with the metrics of %s: %w", n.name, err)
		}
	}
	return nil
}

func (f *feeder) feedNode(ctx context.Context, n *node) error {
	page, err := f.do(ctx, http.MethodGet, "http://"+n.addr+"/metrics", nil)
	if err != nil {
		return err
	}
	labels := url.Values{"extra_label": {"job=" + n.binary, "instance=" + n.addr}}
	_, err = f.do(ctx, http.MethodPost, f.insertURL+"/insert/0/prometheus/api/v1/import/prometheus?"+labels.Encode(), page)
	return err
}

func (f *feeder) do(ctx context.Context, method, target string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("status %d: %.200s", resp.StatusCode, answer)
	}
	return answer, err
}
